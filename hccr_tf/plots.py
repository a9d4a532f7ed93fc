"""Curves and confusions as pictures, Chinese characters included.

Characters are drawn with the font that OpenCV carries, so they are readable on a
machine without a Chinese font.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hccr_tf.data.sheet import text_image
from hccr_tf.files import atomic_write

_GLYPH_PIXELS = 44


def glyphs_at(axes, texts: Sequence[str], axis: str = "y", zoom: float = 0.5) -> None:
    """Labels the ticks 0, 1, … of an axis with texts drawn as pictures.

    Args:
        axes: Matplotlib axes.
        texts: one a tick, any Chinese.
        axis: "x" or "y".
        zoom: size; 0.5 is a character of about 22 pixels at 100 dpi.
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    getattr(axes, f"set_{axis}ticks")(range(len(texts)), [""] * len(texts))
    for i, text in enumerate(texts):
        picture = OffsetImage(text_image(text, _GLYPH_PIXELS), zoom=zoom, cmap="gray")
        place = (0, i) if axis == "y" else (i, 0)
        transform = axes.get_yaxis_transform() if axis == "y" else axes.get_xaxis_transform()
        box = AnnotationBbox(
            picture,
            place,
            xycoords=transform,
            box_alignment=(1.1, 0.5) if axis == "y" else (0.5, 1.1),
            frameon=False,
            annotation_clip=False,
        )
        axes.add_artist(box)


def curves_figure(histories: dict[str, pd.DataFrame]):
    """Loss and accuracy of every head against epochs, a row a run.

    Args:
        histories: `history.csv` as a frame, by the run's name.

    Returns:
        A Matplotlib figure: training as dashed, validation as full lines.
    """
    from matplotlib.figure import Figure

    rows = len(histories)
    figure = Figure(figsize=(11, 3.6 * rows), layout="constrained")
    all_axes = figure.subplots(rows, 2, squeeze=False)
    for (name, history), (loss_axes, accuracy_axes) in zip(
        histories.items(), all_axes, strict=True
    ):
        for axes, quantity, scale in (
            (loss_axes, "loss", 1),
            (accuracy_axes, "accuracy", 100),
        ):
            heads = [
                c.removesuffix(f"_{quantity}")
                for c in history
                if c.endswith(f"_{quantity}") and not c.startswith("val_")
            ]
            for i, head in enumerate(sorted(heads, key=lambda h: (h != "main_output", h))):
                column, wide = f"{head}_{quantity}", 2.4 if i == 0 else 1.2
                epochs = history["epoch"]
                axes.plot(epochs, scale * history[column], "--", color=f"C{i}", lw=wide / 2)
                axes.plot(
                    epochs,
                    scale * history[f"val_{column}"],
                    "-o",
                    ms=3,
                    color=f"C{i}",
                    lw=wide,
                    label=head,
                )
            axes.set_xlabel("epoch")
            axes.set_ylabel("loss" if scale == 1 else "accuracy, %")
            axes.set_title(f"{name}: {quantity} (full: validation, dashed: training)", fontsize=9)
            axes.grid(alpha=0.3)
        accuracy_axes.set_ylim(0, 100)
        loss_axes.set_yscale("log")
        accuracy_axes.legend(fontsize=8)
    return figure


def draw_curves(history: pd.DataFrame, path: Path, name: str) -> None:
    """Writes a run's curves as PNG."""
    save_figure(curves_figure({name: history}), path)


def draw_confused_pairs(pairs: Sequence[tuple[str, str, int, int]], path: Path) -> None:
    """Writes the most confused pairs as a bar chart, PNG.

    Args:
        pairs: (true character, predicted character, count, samples of the true one),
            most frequent first.
        path: file to write.
    """
    from matplotlib.figure import Figure

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
        axes.set_xlabel("test samples")
    else:
        axes.text(0.5, 0.5, "No sample was misread.", ha="center", va="center")
        axes.set_axis_off()
    axes.set_title("Most confused: true → predicted", fontsize=10)
    save_figure(figure, path)


def save_figure(figure, path: Path) -> None:
    """Writes a figure as PNG, atomically."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
