"""`hccr reproduce` for Melnyk et al. 2018, on runs of the sample."""

import keras
import numpy as np
import pytest
from run_copies import copy_run

from hccr_tf import Predictor, get_recipe, train
from hccr_tf.charset import Charset
from hccr_tf.data.loading.loader import Loader
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.models.weights import save_weights
from hccr_tf.runs.workdir import Workdir

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def runs(sample_store, tmp_path_factory):
    """Models A and C; the first one's bias is made to decide."""
    folder = tmp_path_factory.mktemp("runs")
    found = []
    for name in ("melnyk_net_a", "melnyk_net_c"):
        recipe = get_recipe(name).override(
            image_size=32, **{"model.width": 8}, epochs=2, batch_size=16, learning_rate=3e-3
        )
        found.append(train(recipe, sample_store, folder / name))
    predictor = Predictor(found[0].path)
    bias = np.zeros(15, np.float32)
    bias[3] = 1e4
    predictor.model.get_layer(MAIN_OUTPUT).bias.assign(bias)
    save_weights(found[0].prediction_weights, {"model": predictor.model.variables}, {"epoch": 2})
    return [run.path for run in found]


def accuracy(run, store, without_bias):
    predictor = Predictor(run)
    if without_bias:
        predictor.model.get_layer(MAIN_OUTPUT).bias.assign(keras.ops.zeros(15))
    reader = Loader(store, "test", predictor.preprocessing, 32, charset=predictor.charset)
    right = [predictor.logits(b.images).argmax(axis=1) == b.labels for b in reader.batches()]
    return 100 * np.concatenate(right).mean()


def test_table_1_counts_every_layer(make_tables):
    tables = make_tables("melnyk_table1", [])
    ours, paper = tables["ours"], tables["paper"]
    # The paper's shapes, layer by layer; the input isn't a layer of ours.
    assert ours["layer"].tolist() == [*paper["layer"][1:], "all"]
    assert ours["output_shape"][:-1].tolist() == paper["output shape"][1:].tolist()
    totals = ours.iloc[-1]
    assert [totals[f"parameters_{x}"] for x in "abc"] == [6507691, 6508139, 6523819]
    assert totals["mac"] == ours["mac"][:-1].sum() and round(totals["mac"] / 1e9, 4) == 1.2014


def test_figure_2_has_a_row_a_character_and_a_column_a_run(make_tables, runs, tmp_path):
    table = make_tables("melnyk_figure2", runs)["maps"]
    # The sample has none of the paper's characters: its first four stand for them.
    assert len(table) == 4 * 2 and table["image"].nunique() == 4
    assert table["run"].unique().tolist() == ["melnyk_net_a", "melnyk_net_c"]
    assert (tmp_path / "cam.png").exists()


@pytest.mark.slow
def test_table_2_resets_the_bias(make_tables, runs, sample_store, tmp_path):
    tables = make_tables("melnyk_table2", runs)
    table = tables["ours"]
    assert table["network"].tolist() == ["melnyk_net_a", "melnyk_net_c"]
    for row, run in zip(table.to_dict("records"), runs, strict=True):
        assert row["accuracy"] == pytest.approx(accuracy(run, sample_store, False), abs=1e-3)
        without = accuracy(run, sample_store, True)
        assert row["accuracy_without_bias"] == pytest.approx(without, abs=1e-4)
        assert row["accuracy_drop"] == pytest.approx(row["accuracy"] - without, abs=1e-3)
        assert row["low"] < row["accuracy"] < row["high"]
        assert row["data_hash"] == sample_store.data_hash[:16]
    # All but the fourth class are read otherwise without the bias that decided.
    assert table["accuracy"][0] == pytest.approx(100 / 15, abs=0.01)
    assert table["changed"][0] > 50 and "paper" in tables
    difference = table["accuracy"][1] - table["accuracy"][0]
    assert tables["pairs"]["difference"].tolist() == pytest.approx([difference], abs=2e-3)
    # The second time nothing is predicted anew.
    times = [p.stat().st_mtime_ns for p in sorted((tmp_path / "logits").iterdir())]
    table = make_tables("melnyk_table3", runs)["table"]
    assert [p.stat().st_mtime_ns for p in sorted((tmp_path / "logits").iterdir())] == times
    assert len(table) == 20 + 3
    assert table["method"].tolist()[-1] == "mean logits of 2"
    assert table["ensemble"].tolist()[-3:] == ["no", "no", "yes (2)"]
    assert set(table["test_set"][:20]) == {"ICDAR-2013"}
    assert "15 classes" in table["test_set"].iloc[-1]
    assert (tmp_path / "melnyk_table3.png").stat().st_size > 10_000


def test_runs_of_different_charsets_are_compared_by_character(make_tables, runs, tmp_path):
    # The same network, its classes in the other order.
    other = copy_run(runs[1], tmp_path / "other")
    Charset.from_text(Workdir(other).charset.text[::-1]).save(other / "charset.json")
    predictor = Predictor(runs[1])
    classifier = predictor.model.get_layer(MAIN_OUTPUT)
    kernel, bias = classifier.get_weights()
    classifier.set_weights([kernel[:, ::-1], bias[::-1]])
    weights = {"model": predictor.model.variables}
    save_weights(Workdir(other).prediction_weights, weights, {"epoch": 2})
    pairs = make_tables("melnyk_table2", [runs[1], other])["pairs"]
    columns = ["difference", "only_first_right", "only_second_right"]
    assert pairs[columns].to_numpy().tolist() == [[0, 0, 0]]
