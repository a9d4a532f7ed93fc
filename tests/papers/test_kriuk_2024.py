"""Tables and figures of Kriuk & Kriuk 2024 on two small runs of the sample."""

import shutil

import h5py
import numpy as np
import pytest
from run_copies import copy_run

from hccr_tf import get_recipe, predict_split, train

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def runs(brick_run, sample_store, tmp_path_factory):
    """Models 1 and 2 of two and three bricks, γ 4 and 2, two epochs each."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(brick_run, folder / "model1")
    settings = {"model.num_bricks": 3, "model.width": 16, "loss.gamma": 2.0, "seed": 2}
    recipe = get_recipe("brick_model2").override(settings, image_size=16, epochs=2, batch_size=32)
    train(recipe, sample_store, folder / "model2")
    return [folder / "model1", folder / "model2"]


def test_table_1_is_the_fusion_of_five_crops(make_tables, sample_store, runs, tmp_path):
    tables = make_tables("kriuk_table1", runs)
    assert len(tables["paper"]) == 9
    out = tmp_path / "five.h5"
    singles = [predict_split(run, sample_store, out)["logits"]["top1"] for run in runs]
    (single,) = make_tables("kriuk_table1", runs[:1])["ours"]["accuracy"]
    assert single == pytest.approx(100 * singles[0], abs=1e-3)
    # As many models as the paper's, a copy of the first among them: 0.3, 0.2 and 0.5.
    copy = shutil.copytree(runs[0], tmp_path / "model3")
    three = make_tables("kriuk_table1", [*runs, copy])["ours"]["accuracy"]
    for some, accuracy in ((runs, tables["ours"]["accuracy"]), ([*runs, copy], three)):
        weights = [0.5, 0.5] if len(some) == 2 else [0.3, 0.2, 0.5]
        total = 0
        for weight, run in zip(weights, some, strict=True):
            predict_split(run, sample_store, out)
            with h5py.File(out) as file:
                total = total + weight * file["logits"][:]
                labels = file["labels"][:]
        right = (total.argmax(axis=1) == labels).mean()
        assert accuracy.tolist() == [pytest.approx(100 * right, abs=1e-3)]


def test_table_2_follows_training(make_tables, runs, tmp_path):
    tables = make_tables("kriuk_table2", runs)
    assert tables["ours"]["epoch"].tolist() == [1, 2]
    assert set(tables["ours"]) == {"epoch", "model1", "model2"} and len(tables["paper"]) == 10
    assert tables["final"]["run"].tolist() == ["model1", "model2"] and len(tables["pairs"]) == 1
    assert (tmp_path / "kriuk_table2.png").exists()


def test_figure_7_has_every_way_to_fuse(make_tables, runs, tmp_path):
    table = make_tables("kriuk_figure7", runs)["ours"]
    # Two models alone in three crops; both in three weights, three crops, two fusions.
    assert len(table) == 2 * 3 + 3 * 3 * 2
    alone = table[table["models"] == "model1"].set_index("crops")["accuracy"]
    assert set(alone.index) == {"five", "centre", "whole"}
    both = table[table["models"] == "model1 + model2"]
    weights = both[both["weights"] == "found on validation"]["values"].iloc[0].split()
    assert sum(map(float, weights)) == pytest.approx(1)
    assert (tmp_path / "kriuk_figure7.png").exists()
    members = make_tables("kriuk_figure7", runs)["members"]
    for row in members.to_dict("records"):
        gained = row["only_second_right"] - row["only_first_right"]
        assert row["difference"] == pytest.approx(100 * gained / 120, abs=2e-3)


def test_figures_8_and_9_name_what_differs(make_tables, runs, tmp_path):
    for name, column, values in (
        ("kriuk_figure8", "gamma", [4.0, 2.0]),
        ("kriuk_figure9", "bricks", [2, 3]),
        ("kriuk_losses_and_heads", "loss", ["categorical_focal"] * 2),
    ):
        tables = make_tables(name, runs)
        assert tables["ours"][column].tolist() == values
        assert tables["ours"]["input"].tolist() == ["model1", "model2"]
        assert len(tables["pairs"]) == 1
        assert (tmp_path / f"{name}.png").exists() and (tmp_path / f"{name}_curves.png").exists()


def test_runs_without_what_a_figure_compares_are_refused(runs, make_tables, tmp_path):
    other = copy_run(runs[0], tmp_path / "other", loss="cross_entropy", loss_args={})
    with pytest.raises(ValueError, match="other has no gamma: this compares brick networks"):
        make_tables("kriuk_figure8", [runs[0], other])
    assert not (tmp_path / "logits").exists()
    tables = make_tables("kriuk_losses_and_heads", [runs[0], other])
    assert tables["ours"]["loss"].tolist() == ["categorical_focal", "cross_entropy"]
    assert tables["runs"]["run"].tolist() == ["model1", "other"]
    assert tables["runs"]["train_command"].notna().all()


def test_leaving_out_the_blur_changes_blurred_models_only(make_tables, runs):
    table = make_tables("kriuk_blur", runs)["ours"].set_index("run")
    assert table.loc["model1", "with_blur"] == table.loc["model1", "without"]
    assert table.loc["model1", "p"] == 1
    assert table.loc["model2", "blur_kernel"] == 3
    changed = table.loc["model2", ["only_first_right", "only_second_right"]].to_numpy(int)
    assert np.diff(changed)[0] == pytest.approx(1.2 * table.loc["model2", "difference"], abs=1e-2)
