"""Curves and confusions as images, with Chinese characters in the font that OpenCV carries."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import LogFormatter

from hccr_tf.images.contact_sheet import text_image
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write

_GLYPH_PIXELS = 44
_MARKERS = "o^sDv"


def glyphs_at(axes, texts: Sequence[str], axis: str = "y", zoom: float = 0.5) -> None:
    """Labels the ticks 0, 1, … of an axis with texts drawn as images.

    Args:
        axes: Matplotlib axes.
        texts: one a tick, any Chinese.
        axis: "x" or "y".
        zoom: size; 0.5 is a character of about 22 pixels at 100 dpi.
    """
    getattr(axes, f"set_{axis}ticks")(range(len(texts)), [""] * len(texts))
    transform = getattr(axes, f"get_{axis}axis_transform")()
    options = {"xycoords": transform, "frameon": False, "annotation_clip": False}
    for i, text in enumerate(texts):
        pixels = text_image(text, _GLYPH_PIXELS)
        # With its own range, a text without ink would come out black.
        image = OffsetImage(pixels, zoom=zoom, cmap="gray", norm=Normalize(0, 255))
        place, corner = ((0, i), (1.1, 0.5)) if axis == "y" else ((i, 0), (0.5, 1.1))
        axes.add_artist(AnnotationBbox(image, place, box_alignment=corner, **options))


def curves_figure(histories: dict[str, pd.DataFrame]) -> Figure:
    """Plots loss and accuracy of every head against epochs, a row a run.

    Args:
        histories: `history.csv` as a frame, by the run's name.
    """
    figure = Figure(figsize=(11, 3.6 * len(histories)), layout="constrained")
    rows = figure.subplots(len(histories), 2, squeeze=False)
    for axes, (name, history) in zip(rows, histories.items(), strict=True):
        heads = re.findall(r"^val_(.+)_loss$", "\n".join(map(str, history)), re.M)
        heads.sort(key=lambda head: (head != "main_output", head))
        _plot_heads(axes, [(head, history, head) for head in heads], "epoch", name)
    return figure


def overlay_figure(
    histories: dict[str, pd.DataFrame], over: str = "step", *, same_loss: bool = True
) -> Figure:
    """Plots loss and accuracy of several runs' main output over each other.

    Args:
        histories: `history.csv` as a frame, by the run's name.
        over: column on the x axis: "step", over which runs of other batch sizes stand beside
            each other fairly, or "epoch".
        same_loss: whether all learnt by one loss; otherwise accuracies alone are drawn, as values
            of different losses can't be compared.

    Raises:
        HccrError: a history lacks one of the columns.
    """
    figure = Figure(figsize=(11 if same_loss else 6.5, 4.2), layout="constrained")
    lines = [(name, history, "main_output") for name, history in histories.items()]
    pair = figure.subplots(1, 2) if same_loss else (None, figure.add_subplot())
    _plot_heads(pair, lines, over, "main output")
    return figure


def _plot_heads(pair, lines: Sequence[tuple[str, pd.DataFrame, str]], over: str, title: str):
    """Plots a line for each (label, history, head): its loss on the first axes, its accuracy."""
    for axes, quantity, scale in zip(pair, ("loss", "accuracy"), (1, 100), strict=True):
        if axes is None:
            continue
        for i, (label, history, head) in enumerate(lines):
            names = over, f"{head}_{quantity}", f"val_{head}_{quantity}"
            if missing := [name for name in names if name not in history]:
                raise HccrError(f"The history of {label} lacks the columns {', '.join(missing)}.")
            at, training, validation = (history[name] for name in names)
            # Of one epoch there's no line to see, only its end.
            axes.plot(at, scale * training, "--x", ms=4, color=f"C{i}", lw=1)
            axes.plot(at, scale * validation, "-o", ms=3, color=f"C{i}", label=label)
        axes.set(xlabel=over, ylabel=quantity if scale == 1 else "accuracy, %")
        axes.set_title(f"{title}: {quantity} (full: validation, dashed: training)", fontsize=9)
        axes.locator_params(axis="x", integer=True)
        axes.grid(alpha=0.3)
    if pair[0] is not None:
        pair[0].set_yscale("log")
        pair[0].yaxis.set_major_formatter("{x:g}")
        pair[0].yaxis.set_minor_formatter(_Between(minor_thresholds=(1.2, 0.5)))
        pair[0].tick_params(which="minor", labelsize=7)
    pair[1].set_ylim(0, min(100, 1.1 * pair[1].dataLim.y1))
    pair[1].legend(fontsize=8)


class _Between(LogFormatter):
    """Labels between powers of ten, where few of these are on an axis; others would meet."""

    def __call__(self, x, pos=None) -> str:
        return f"{x:.2g}" if super().__call__(x, pos) else ""


def draw_confused_pairs(pairs: Sequence[tuple[str, str, int, int]], path: Path) -> None:
    """Writes the most confused pairs as a bar chart, PNG.

    Args:
        pairs: (true character, predicted character, count, samples of the true one),
            most frequent first.
        path: the PNG file.
    """
    figure = Figure(figsize=(7, 1.2 + 0.34 * max(1, len(pairs))), layout="constrained")
    axes = figure.subplots()
    if pairs:
        counts = np.array([count for _, _, count, _ in pairs])
        axes.barh(range(len(pairs)), counts, color="C3")
        for i, (_, _, count, samples) in enumerate(pairs):
            axes.text(count, i, f" {count} of {samples}", va="center", fontsize=8)
        axes.set_ylim(len(pairs) - 0.4, -0.6)
        axes.set_xlim(0, 1.2 * counts.max())
        glyphs_at(axes, [f"{true} → {predicted}" for true, predicted, _, _ in pairs])
        axes.set_xlabel("samples")
        axes.locator_params(axis="x", integer=True)
    else:
        axes.text(0.5, 0.5, "No sample was misread.", ha="center", va="center")
        axes.set_axis_off()
    axes.set_title("Most confused: true → predicted", fontsize=10)
    save_figure(figure, path)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure as PNG, atomically."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def draw_size_against_accuracy(table: pd.DataFrame, path: Path) -> None:
    """Writes accuracy against size of methods as PNG, a colour for each test set.

    Args:
        table: columns `method`, `size_mb` and `accuracy` (percent) as texts or numbers, and
            `test_set`; rows without a size are left out.
        path: file to write.
    """
    numbers = table[["size_mb", "accuracy"]].apply(pd.to_numeric, errors="coerce").dropna()
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    for i, (name, group) in enumerate(table.loc[numbers.index].groupby("test_set", sort=False)):
        places = numbers.loc[group.index]
        axes.plot(*places.to_numpy().T, _MARKERS[i % len(_MARKERS)], color=f"C{i}", label=name)
        for method, place in zip(group["method"], places.to_numpy(), strict=True):
            axes.annotate(method, tuple(place), (4, 3), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set(xlabel="size, MB", ylabel="accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(title="test set", fontsize=8)
    save_figure(figure, path)


def draw_grid(table: pd.DataFrame, settings: Sequence[str], value: str, path: Path) -> None:
    """Writes a sweep's results as PNG: a grid of the first two settings for each of the others.

    Args:
        table: a row a run, with the settings and the value; without one where it wasn't run.
        settings: columns; of equal ones but for `seed` the mean is shown, with the standard
            deviation below it.
        value: column, a share of 1 or a percentage.
        path: file to write.
    """
    varied = [name for name in settings if name != "seed" and table[name].nunique() > 1]
    if value not in table:
        table = table.assign(**{value: np.nan})
    x, y, *others = [*varied, *(name for name in settings if name not in varied), "", ""]
    others = [name for name in others if name in varied]
    table = table.assign(**{"": value})
    panels = list(table.groupby(others, sort=False)) if others else [("", table)]
    values = pd.to_numeric(table[value], errors="coerce")
    # The split's accuracy is in percent, a run's own history in shares of 1.
    table = table.assign(shown=values if value == "accuracy" else 100 * values)
    low, high = table["shown"].min(), table["shown"].max()
    columns, rows = table[x].unique(), table[y].unique()
    size = (2.2 + 1.1 * len(columns) * len(panels), 1.6 + 0.7 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (names, panel) in zip(all_axes, panels, strict=True):
        groups = table.loc[panel.index].groupby([y, x], sort=False)["shown"]
        means, spreads = (
            kind.unstack().reindex(index=rows, columns=columns).to_numpy(float)
            for kind in (groups.mean(), groups.std())
        )
        image = axes.imshow(means, vmin=low, vmax=high, cmap="viridis", aspect="auto")
        for (i, j), mean in np.ndenumerate(means):
            text = "not run" if np.isnan(mean) else f"{mean:.2f}"
            text += "" if np.isnan(spreads[i, j]) else f"\n±{spreads[i, j]:.2f}"
            box = {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 1.5}
            axes.text(j, i, text, ha="center", va="center", fontsize=9, bbox=box)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel=x, ylabel="" if y == "" else y)
        if others:
            shown = zip(others, names, strict=True)
            axes.set_title(", ".join(f"{name} {text}" for name, text in shown), fontsize=9)
    figure.colorbar(image, ax=all_axes, label=f"{value.replace('_', ' ')}, %")
    save_figure(figure, path)


def draw_intervals(table: pd.DataFrame, name: str, path: str | Path, title: str) -> None:
    """Draws accuracies in percent with their intervals, a point a row, as PNG.

    Args:
        table: columns `accuracy`, `low` and `high`, and what the rows are called.
        name: the column of that.
        path: the PNG file.
        title: above the points.
    """
    figure = Figure(figsize=(7.5, 1.2 + 0.32 * len(table)), layout="constrained")
    axes = figure.subplots()
    places = range(len(table))
    errors = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
    # Points, not bars: their axis doesn't begin at 0, so lengths would mislead.
    axes.errorbar(table["accuracy"], places, xerr=np.maximum(errors, 0), fmt="o", capsize=3)
    for place, accuracy in zip(places, table["accuracy"], strict=True):
        axes.annotate(f"{accuracy:.1f}", (accuracy, place), (0, 5), textcoords="offset points")
    axes.grid(axis="x", alpha=0.3)
    axes.set_yticks(places, [str(v) for v in table[name]])
    axes.set_ylim(len(table) - 0.4, -0.6)
    low, high = float(table["low"].min()), float(table["high"].max())
    room = max(1.0, 0.15 * (high - low))
    axes.set(xlabel="accuracy, %", xlim=(max(0.0, low - room), min(100.5, high + room)))
    axes.set_title(title, fontsize=10)
    save_figure(figure, path)


def draw_reliability(curves: dict[str, pd.DataFrame], path: str | Path) -> None:
    """Draws how often images are read rightly against how probable that was said to be, as PNG.

    Args:
        curves: tables of `calibration.reliability`, by what stands in the legend.
        path: the PNG file.
    """
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for marker, (name, table) in zip(_MARKERS, curves.items(), strict=False):
        axes.plot(table["confidence"], table["accuracy"], marker=marker, label=name)
    axes.set(xlabel="claimed probability", ylabel="share read rightly", title="Reliability")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    save_figure(figure, path)
