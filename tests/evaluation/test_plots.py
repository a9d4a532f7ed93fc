import itertools
from unittest.mock import Mock

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from hccr_tf.evaluation.plots import (
    curves_figure,
    draw_confused_pairs,
    draw_grid,
    glyphs_at,
    overlay_figure,
    save_figure,
)
from hccr_tf.utils.errors import HccrError

HEADS = ["main_output", "aux_output1", "aux_output2"]


@pytest.fixture(autouse=True)
def no_chinese_font():
    """Only Matplotlib's own font, which has no hanzi; a missing glyph is a warning, so an error."""
    with matplotlib.rc_context({"font.family": ["DejaVu Sans"]}):
        yield


@pytest.fixture
def history():
    rows = []
    for epoch in (1, 2, 3):
        row = {"epoch": epoch, "step": 10 * epoch, "loss": 3 / epoch}
        for i, head in enumerate(HEADS):
            for prefix in ("", "val_"):
                row[f"{prefix}{head}_loss"] = (1 + i) / epoch
                row[f"{prefix}{head}_accuracy"] = 0.25 * epoch - 0.01 * i
        rows.append({**row, "val_loss": 2 / epoch})
    return pd.DataFrame(rows)


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return image


# === Curves ===


def test_curves_of_every_head_for_training_and_validation(history):
    figure = curves_figure({"run": history})
    loss, accuracy = figure.axes
    for axes, quantity, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        assert len(axes.lines) == 2 * len(HEADS)
        drawn = {(line.get_linestyle(), tuple(line.get_ydata())) for line in axes.lines}
        for head in HEADS:
            train, validation = f"{head}_{quantity}", f"val_{head}_{quantity}"
            assert ("--", tuple(scale * history[train])) in drawn
            assert ("-", tuple(scale * history[validation])) in drawn
        for line in axes.lines:
            assert line.get_xdata().tolist() == [1, 2, 3]
    legend = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert legend == ["main_output", "aux_output1", "aux_output2"]
    assert accuracy.get_ylim() == pytest.approx((0, 82.5))  # a tenth more than is drawn


def test_curves_are_written_as_an_image_with_a_row_a_run(history, tmp_path):
    figure = curves_figure({"model1": history, "model2": history.head(1)})
    titles = [axes.get_title().split(":")[0] for axes in figure.axes]
    assert titles == ["model1", "model1", "model2", "model2"]
    save_figure(figure, tmp_path / "curves.png")
    image = read(tmp_path / "curves.png")
    assert image.shape[1] > 1000 and image.shape[0] > 300
    assert 0.005 < (image < 128).mean() < 0.3
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_losses_that_cant_be_compared_share_no_axis(history):
    alike = overlay_figure({"a": history, "b": history})
    assert [axes.get_ylabel() for axes in alike.axes] == ["loss", "accuracy, %"]
    (accuracy,) = overlay_figure({"a": history, "b": history}, "epoch", same_loss=False).axes
    assert accuracy.get_ylabel() == "accuracy, %" and len(accuracy.lines) == 4


def test_columns_that_a_history_lacks_are_named(history):
    with pytest.raises(HccrError, match="history of b lacks the columns main_output_accuracy"):
        overlay_figure({"a": history, "b": history.drop(columns="main_output_accuracy")})


def test_a_curve_of_one_epoch_is_seen(history):
    (loss, _) = curves_figure({"run": history.head(1)}).axes
    assert all(line.get_marker() not in ("", "None", None) for line in loss.lines)


def test_the_grids_image_shows_means_and_what_was_not_run(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("hccr_tf.evaluation.plots.save_figure", lambda f, path: figures.append(f))
    cells = itertools.product(("0.1", "0.2"), ("8", "16", "32"), ("a", "b"), (1, 2))
    table = pd.DataFrame(cells, columns=["rate", "batch", "kind", "seed"])
    table["val_accuracy"] = 0.5 + 0.1 * table["seed"]
    table.loc[(table["rate"] == "0.1") & (table["kind"] == "b"), "val_accuracy"] = None
    draw_grid(table, ["rate", "batch", "kind", "seed"], "val_accuracy", tmp_path / "grid.png")
    first, second, _ = figures[0].axes
    assert [axes.get_title() for axes in (first, second)] == ["kind a", "kind b"]
    texts = [text.get_text() for text in second.texts]
    # Mean and deviation of 60 and 70 %.
    assert texts.count("not run") == 3 and texts.count("65.00\n±7.07") == 3
    assert [t.get_text() for t in first.get_xticklabels()] == ["0.1", "0.2"]
    assert [t.get_text() for t in first.get_yticklabels()] == ["8", "16", "32"]


# === Characters ===


def labelled_axes(tmp_path, texts, axis):
    """Ink in the margin of empty axes whose ticks are labelled."""
    figure = Figure(figsize=(3, 3), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(-0.5, 2.5)
    axes.set_ylim(-0.5, 2.5)
    glyphs_at(axes, texts, axis=axis)
    getattr(axes, "xaxis" if axis == "y" else "yaxis").set_visible(False)
    save_figure(figure, tmp_path / "a.png")
    ink = read(tmp_path / "a.png") < 128
    box = axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    return ink[:, : int(box.x0 * 110) - 8] if axis == "y" else ink[-int(box.y0 * 110) + 8 :]


@pytest.mark.parametrize("axis", ["x", "y"])
def test_ticks_are_labelled_with_characters(tmp_path, axis):
    blank = labelled_axes(tmp_path, ["", "", ""], axis)
    ink = labelled_axes(tmp_path, ["鑫", "一", "龍"], axis)
    assert blank.sum() == 0
    assert ink.sum() > 100
    # Three labels apart from one another, in their order: the second is a single stroke.
    along = ink.any(axis=1 if axis == "y" else 0)
    starts = np.flatnonzero(np.diff(np.r_[0, along.astype(int)]) == 1)
    ends = np.flatnonzero(np.diff(np.r_[along.astype(int), 0]) == -1)
    assert ends[-1] - starts[0] > 150
    middle = (starts[0] + ends[-1]) // 2
    cut = ink if axis == "y" else ink.T
    one = cut[middle - 30 : middle + 30].sum()
    assert 0 < one < cut[: middle - 30].sum() / 2
    assert one < cut[middle + 30 :].sum() / 2
    other = labelled_axes(tmp_path, ["法", "一", "龍"], axis)
    assert other.shape != ink.shape or (other != ink).any()


def test_confused_pairs_as_bars(tmp_path):
    path = tmp_path / "pairs.png"
    pairs = [("末", "未", 9, 20), ("土", "士", 4, 30), ("A", "a", 1, 5)]
    draw_confused_pairs(pairs, path)
    image = cv2.imread(str(path))
    red = image[..., 2].astype(int) - image[..., 0] > 100
    lengths = red.sum(axis=1)
    bars = np.split(lengths, np.flatnonzero(np.diff((lengths > 0).astype(int))) + 1)
    lengths = [bar.max() for bar in bars if bar.max()]
    assert len(lengths) == 3
    np.testing.assert_allclose(np.array(lengths) / lengths[0], [1, 4 / 9, 1 / 9], atol=0.03)
    # The pairs' characters lie left of the bars.
    left = np.flatnonzero(red.any(axis=0))[0]
    assert (image[:, : left - 8].min(axis=2) < 128).sum() > 300
    draw_confused_pairs([], path)
    assert (read(path) < 128).sum() > 100


def test_a_failed_save_leaves_the_earlier_image(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"earlier")
    figure = Figure()
    monkeypatch.setattr(figure, "savefig", Mock(side_effect=OSError("No space left on device")))
    with pytest.raises(OSError, match="No space"):
        save_figure(figure, path)
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
