"""`hccr reproduce` for Chen, Xiao & Meng 2023, on runs of the sample."""

import cv2
import numpy as np
import pandas as pd
import pytest
from run_copies import copy_run

from hccr_tf import get_recipe, train
from hccr_tf.papers.chen_2023.experiments import gain_over_fresh
from hccr_tf.papers.ours.experiments import summary
from hccr_tf.recipe import Stage

SMALL = {"image_size": 16, "batch_size": 16, "model_args": {"width": 4, "blocks": [1, 1, 1]}}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(sample_store, tmp_path_factory):
    """One from scratch, one of another subset by its recipe, one in stages that begins with it."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = get_recipe("convnet").override(**SMALL, epochs=2, samples_per_class=10)
    scratch = train(recipe, sample_store, folder / "scratch").path
    larger = copy_run(scratch, folder / "larger", samples_per_class=20)
    staged = get_recipe("transfer").override(
        model="convnet", **SMALL, stages=(Stage(1, "backbone"), Stage(1)), samples_per_class=10
    )
    begun = train(staged, sample_store, folder / "begun", init_from=scratch).path
    return [scratch, larger, begun]


def test_tables_beside_the_papers(make_tables, runs, sample_store, tmp_path):
    tables = make_tables("chen_table1", runs)
    ours = tables["ours"]
    assert ours["samples_per_class"].tolist() == [10, 20, 10]
    begins = f"convnet on data {sample_store.data_hash[:8]}"
    assert ours["begins_with"].tolist() == ["fresh weights"] * 2 + [begins]
    assert ours["stages"].tolist() == [1, 1, 2]
    for row, run in zip(ours.to_dict("records"), runs, strict=True):
        history = pd.read_csv(run / "history.csv").iloc[row["best_epoch"] - 1]
        assert row["val_accuracy"] == pytest.approx(history["val_main_output_accuracy"], abs=1e-4)
        assert row["train_loss"] == pytest.approx(history["loss"], abs=1e-4)
        assert row["low"] < row["accuracy"] < row["high"]
    assert tables["paper"]["validation accuracy"].astype(float).min() == 0.9314
    tables = make_tables("chen_table2", runs)
    assert len(tables["paper"]) == 18 and (tables["ours"]["GPUs"] == 0).all()
    image = cv2.imread(str(tmp_path / "chen_table2.png"))
    assert image is not None and np.ptp(image) > 100


@pytest.mark.parametrize("name", ["chen_figures2to4", "chen_figure5"])
def test_figures_of_runs(name, make_tables, runs, tmp_path):
    table = make_tables(name, runs)["history"]
    image = cv2.imread(str(tmp_path / f"{name}.png"))
    assert image is not None and np.ptp(image) > 200
    assert table["run"].tolist() == ["scratch"] * 2 + ["larger"] * 2 + ["begun"] * 2


def test_transfer_and_networks(make_tables, runs):
    tables = make_tables("chen_transfer", runs)
    rows, gain = tables["ours"].set_index("model")["accuracy"], tables["gain"]
    begun = gain[gain["stages"] == 2].iloc[0]
    assert begun["gain"] == pytest.approx(rows["begun"] - rows["scratch"], abs=2e-3)
    assert len(tables["pairs"]) == 3
    tables = make_tables("networks", runs)
    # Unlike runs aren't averaged.
    assert tables["summary"]["network"].tolist() == ["convnet"] * 3
    assert sorted(tables["summary"]["accuracy"]) == pytest.approx(sorted(rows), abs=1e-3)
    ours = tables["ours"]
    with pytest.raises(ValueError, match="2 runs differ in none of network, .*name one of them"):
        summary(pd.concat([ours, ours[:1]]))


def test_gain_is_that_of_equal_seeds():
    kinds = [
        (70, 1, "fresh weights", 1, 50.0),
        (70, 1, "fresh weights", 2, 60.0),
        (70, 2, "run", 1, 80.0),
        (70, 2, "run", 2, 86.0),
        (70, 2, "run", 3, 90.0),
        ("all", 2, "run", 1, 95.0),
        (70, 2, "fresh weights", 1, 40.0),
    ]
    columns = ["samples_per_class", "stages", "begins_with", "seed", "accuracy"]
    rows = pd.DataFrame(kinds, columns=columns)
    rows = rows.assign(network="n", image_size=64, epochs_asked=9, learning_rate=1e-3)
    gain = gain_over_fresh(rows).set_index(["samples_per_class", "begins_with", "stages"])
    # 30 and 26 points over the same seed; the third has none to compare with.
    row = gain.loc[("70", "run", 2)]
    assert (row["gain"], row["gain_deviation"]) == (28.0, pytest.approx(2.828, abs=1e-3))
    assert (row["seeds"], row["accuracy"]) == (3, pytest.approx(85.333, abs=1e-3))
    assert gain.loc[("70", "fresh weights", 1), "gain"] == 0
    assert gain.loc[("70", "fresh weights", 2), "gain"] == -10
    assert np.isnan(gain.loc[("all", "run", 2), "gain"])
    with pytest.raises(ValueError, match="2 runs differ in none of"):
        gain_over_fresh(pd.concat([rows, rows[:1]]))


def test_networks_are_summed_up_over_seeds():
    kinds = [("slow", 1, 90.0, 6.0), ("fast", 1, 92.0, 1.0), ("fast", 2, 94.0, 3.0)]
    rows = pd.DataFrame(kinds, columns=["network", "seed", "accuracy", "train_minutes"])
    rows = rows.assign(image_size=64, parameters=5, gmac=0.1, samples_per_class="all")
    rows = rows.assign(begins_with="fresh weights", stages=1, epochs_asked=3)
    table = summary(rows)
    assert table["network"].tolist() == ["fast", "slow"]
    assert table["accuracy"].tolist() == [93.0, 90.0]
    assert table["relative_time"].tolist() == [1.0, 3.0]
    assert table["deviation"][0] == pytest.approx(1.414, abs=1e-3)
