"""Tables and figures of Kriuk & Kriuk 2024 on two small runs of the sample."""

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

from hccr_tf import get_recipe, predict_split, train
from hccr_tf.cli.main import main

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def runs(sample_store, tmp_path_factory):
    """Models 1 and 2 of two and three bricks, γ 4 and 2, two epochs each."""
    folder = tmp_path_factory.mktemp("runs")
    for number in (1, 2):
        recipe = get_recipe(f"brick_model{number}").override(
            image_size=16,
            **{"model.num_bricks": 1 + number, "model.width": 16, "loss.gamma": 4.0 / number},
            epochs=2,
            batch_size=32,
            seed=number,
        )
        train(recipe, sample_store, folder / f"model{number}")
    return [str(folder / f"model{number}") for number in (1, 2)]


@pytest.fixture
def reproduce(sample_store, runs, tmp_path):
    def reproduce(name, some=runs):
        arguments = ["--data", str(sample_store.path), "--out", str(tmp_path), "--workdir", *some]
        assert main(["reproduce", name, *arguments]) == 0
        return {
            path.stem.removeprefix(f"{name}_"): pd.read_csv(path, keep_default_na=False)
            for path in tmp_path.glob(f"{name}_*.csv")
        }

    return reproduce


def test_table_1_is_the_fusion_of_five_crops(reproduce, sample_store, runs, tmp_path):
    tables = reproduce("kriuk_table1")
    assert len(tables["paper"]) == 9
    out = tmp_path / "five.h5"
    singles = [predict_split(run, sample_store, out)["logits"]["top1"] for run in runs]
    (single,) = reproduce("kriuk_table1", runs[:1])["ours"]["accuracy"]
    assert single == pytest.approx(100 * singles[0], abs=1e-3)
    # As many models as the paper's, a copy of the first among them: 0.3, 0.2 and 0.5.
    copy = str(shutil.copytree(runs[0], tmp_path / "model3"))
    three = reproduce("kriuk_table1", [*runs, copy])["ours"]["accuracy"]
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


def test_table_2_follows_training(reproduce, tmp_path):
    tables = reproduce("kriuk_table2")
    assert tables["ours"]["epoch"].tolist() == [1, 2]
    assert set(tables["ours"]) == {"epoch", "model1", "model2"} and len(tables["paper"]) == 10
    assert tables["final"]["run"].tolist() == ["model1", "model2"] and len(tables["pairs"]) == 1
    assert (tmp_path / "kriuk_table2.png").exists()


def test_figure_7_has_every_way_to_fuse(reproduce, tmp_path):
    table = reproduce("kriuk_figure7")["ours"]
    # Two models alone in three crops; both in three weights, three crops, two fusions.
    assert len(table) == 2 * 3 + 3 * 3 * 2
    alone = table[table["models"] == "model1"].set_index("crops")["accuracy"]
    assert set(alone.index) == {"five", "centre", "whole"}
    both = table[table["models"] == "model1 + model2"]
    weights = both[both["weights"] == "found on validation"]["values"].iloc[0].split()
    assert sum(map(float, weights)) == pytest.approx(1)
    assert (tmp_path / "kriuk_figure7.png").exists()
    members = reproduce("kriuk_figure7")["members"]
    for row in members.to_dict("records"):
        gained = row["only_second_right"] - row["only_first_right"]
        assert row["difference"] == pytest.approx(100 * gained / 120, abs=2e-3)


def test_figures_8_and_9_name_what_differs(reproduce, tmp_path):
    for name, column, values in (
        ("kriuk_figure8", "gamma", [4.0, 2.0]),
        ("kriuk_figure9", "bricks", [2, 3]),
        ("kriuk_losses_and_heads", "loss", ["categorical_focal"] * 2),
    ):
        tables = reproduce(name)
        assert tables["ours"][column].tolist() == values
        assert tables["ours"]["input"].tolist() == ["model1", "model2"]
        assert len(tables["pairs"]) == 1
        assert (tmp_path / f"{name}.png").exists() and (tmp_path / f"{name}_curves.png").exists()


def test_runs_without_what_a_figure_compares_are_refused(runs, sample_store, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    recipe = json.loads((other / "recipe.json").read_text("utf-8"))
    recipe |= {"loss": "cross_entropy", "loss_args": {}}
    (other / "recipe.json").write_text(json.dumps(recipe), "utf-8")
    arguments = ["--data", str(sample_store.path), "--out", str(tmp_path / "out")]
    assert main(["reproduce", "kriuk_figure8", *arguments, "--workdir", runs[0], str(other)]) == 2
    assert "other has no γ: this compares brick networks" in capsys.readouterr().err
    assert not (tmp_path / "out" / "logits").exists()
    assert (
        main(["reproduce", "kriuk_losses_and_heads", *arguments, "--workdir", runs[0], str(other)])
        == 0
    )
    table = pd.read_csv(tmp_path / "out" / "kriuk_losses_and_heads_ours.csv")
    assert table["loss"].tolist() == ["categorical_focal", "cross_entropy"]
    table = pd.read_csv(tmp_path / "out" / "kriuk_losses_and_heads_runs.csv")
    assert table["run"].tolist() == ["model1", "other"] and table["train_command"].notna().all()
    for name in ("kriuk_blur", "kriuk_table1", "kriuk_figure7", "kriuk_figure9"):
        assert main(["reproduce", name, *arguments]) == 2
        assert "Name the trained runs: --workdir" in capsys.readouterr().err


def test_leaving_out_the_blur_changes_blurred_models_only(reproduce):
    table = reproduce("kriuk_blur")["ours"].set_index("run")
    assert table.loc["model1", "with_blur"] == table.loc["model1", "without"]
    assert table.loc["model1", "p"] == 1
    assert table.loc["model2", "blur_kernel"] == 3
    changed = table.loc["model2", ["only_first_right", "only_second_right"]].to_numpy(int)
    assert np.diff(changed)[0] == pytest.approx(1.2 * table.loc["model2", "difference"], abs=1e-2)
