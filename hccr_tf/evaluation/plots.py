"""Curves and confusions as images, with Chinese characters in the font that OpenCV carries."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

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


def overlay_figure(histories: dict[str, pd.DataFrame], over: str = "step") -> Figure:
    """Plots loss and accuracy of several runs' main output over each other.

    Args:
        histories: `history.csv` as a frame, by the run's name.
        over: column on the x axis: "step", over which runs of other batch sizes stand beside
            each other fairly, or "epoch".
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    lines = [(name, history, "main_output") for name, history in histories.items()]
    _plot_heads(figure.subplots(1, 2), lines, over, "main output")
    return figure


def _plot_heads(pair, lines: Sequence[tuple[str, pd.DataFrame, str]], over: str, title: str):
    """Plots a line for each (label, history, head): its loss on the first axes, its accuracy."""
    for axes, quantity, scale in zip(pair, ("loss", "accuracy"), (1, 100), strict=True):
        for i, (label, history, head) in enumerate(lines):
            training = scale * history[f"{head}_{quantity}"]
            validation = scale * history[f"val_{head}_{quantity}"]
            axes.plot(history[over], training, "--", color=f"C{i}", lw=1)
            axes.plot(history[over], validation, "-o", ms=3, color=f"C{i}", label=label)
        axes.set(xlabel=over, ylabel=quantity if scale == 1 else "accuracy, %")
        axes.set_title(f"{title}: {quantity} (full: validation, dashed: training)", fontsize=9)
        axes.locator_params(axis="x", integer=True)
        axes.grid(alpha=0.3)
    pair[0].set_yscale("log")
    pair[1].set_ylim(0, 100)
    pair[1].legend(fontsize=8)


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


def images_figure(
    rows: Sequence[Sequence[np.ndarray | None]],
    row_texts: Sequence[str] = (),
    column_texts: Sequence[str] = (),
    size: float = 0.8,
) -> Figure:
    """Draws images in rows and columns, each fitted into a square, with their texts.

    Args:
        rows: images uint8 (H, W) or (H, W, 1) of any size, 0 shown black and 255
            white; None leaves a place empty, and rows may differ in length.
        row_texts: one a row, on its left; any Chinese.
        column_texts: one a column, above it, made smaller where it's wider than the column.
        size: side of the squares in inches.

    Raises:
        HccrError: there is no image.
    """
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise HccrError("A figure needs at least one image.")
    # Everything lies in one axes whose unit is the inch: many axes are slow to draw.
    gap, inch_per_pixel = 0.08, 0.2 / _GLYPH_PIXELS
    left_labels = [text_image(text, _GLYPH_PIXELS) for text in row_texts]
    top_labels = [text_image(text, _GLYPH_PIXELS) for text in column_texts]
    left = gap + max((label.shape[1] * inch_per_pixel + gap for label in left_labels), default=0)
    top = gap + max((label.shape[0] * inch_per_pixel for label in top_labels), default=0)
    pitch = size + gap
    width, height = left + columns * pitch, top + len(rows) * pitch
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))

    def draw(image: np.ndarray, x: float, y: float, scale: float) -> None:
        high, wide = (scale * side for side in image.shape[:2])
        extent = (x - wide / 2, x + wide / 2, y + high / 2, y - high / 2)
        image = image.reshape(image.shape[:2])
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")

    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            if image is None:
                continue
            x, y = left + j * pitch, top + i * pitch
            draw(image, x + size / 2, y + size / 2, size / max(image.shape))
            axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor="0.75", lw=0.8))
    for i, label in enumerate(left_labels):
        x = left - gap - label.shape[1] * inch_per_pixel / 2
        draw(label, x, top + i * pitch + size / 2, inch_per_pixel)
    for j, label in enumerate(top_labels):
        scale = min(inch_per_pixel, size / label.shape[1])
        draw(label, left + j * pitch + size / 2, top / 2, scale)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure


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


def simplex_figure(
    weights: np.ndarray,
    values: np.ndarray,
    corners: Sequence[str],
    marks: dict[str, Sequence[float]],
    label: str,
) -> Figure:
    """Draws a value over three weights that sum to 1, as a triangle of hexagons.

    Args:
        weights: float (N, 3), an even grid.
        values: float (N,), one each.
        corners: three names; a corner is where that weight is 1.
        marks: weights to mark, by their name in the legend.
        label: what the values are.
    """
    # Left, right and top of a triangle with sides of length 1.
    places = np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])
    step = np.min(weights[weights > 0])
    angles = np.pi / 6 + np.arange(6) * np.pi / 3
    hexagon = step / np.sqrt(3) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    tiles = PolyCollection((weights @ places)[:, None] + hexagon, array=values, edgecolor="face")
    # Where all are equal, Matplotlib would spread the scale about them, beyond 100 %.
    tiles.set_clim(values.min() - (values.min() == values.max()), values.max())
    axes.add_collection(tiles)
    for corner, (x, y) in zip(corners, places, strict=True):
        side = -1 if y == 0 else 1
        axes.text(x, y + side * 1.5 * step, corner, ha="center", va="center")
    # Hollow and ever larger, so that marks at one place are all seen.
    outline = [withStroke(linewidth=4, foreground="black")]
    for i, (name, mark) in enumerate(marks.items()):
        x, y = np.asarray(mark) / np.sum(mark) @ places
        (point,) = axes.plot(x, y, _MARKERS[i % len(_MARKERS)], ms=7 + 5 * i, label=name)
        point.set(mfc="none", mec="white", mew=1.8, path_effects=outline)
    axes.set(xlim=(-0.1, 1.1), ylim=(-0.14, 1))
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.legend(loc="upper left", frameon=False, fontsize=9, labelspacing=1)
    figure.colorbar(tiles, ax=axes, label=label, shrink=0.8)
    return figure


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


def draw_bars(table: pd.DataFrame, name: str, path: str | Path, title: str) -> None:
    """Draws accuracies in percent with their intervals, a bar a row, as PNG.

    Args:
        table: columns `accuracy`, `low` and `high`, and what the bars are called.
        name: the column of that.
        path: the PNG file.
        title: above the bars.
    """
    figure = Figure(figsize=(7.5, 1.2 + 0.32 * len(table)), layout="constrained")
    axes = figure.subplots()
    places = range(len(table))
    errors = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
    axes.barh(places, table["accuracy"], xerr=np.maximum(errors, 0), color="C0", capsize=2)
    axes.set_yticks(places, [str(v) for v in table[name]])
    axes.set_ylim(len(table) - 0.4, -0.6)
    low = max(0.0, float(table["low"].min()) - 5)
    axes.set(xlabel="accuracy, %", xlim=(low, min(100.5, float(table["high"].max()) + 2)))
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
