"""Fusion of logits files against the same in NumPy, its tables, and the search for weights."""

import json

import numpy as np
import pytest
from disk import rows

from hccr_tf.evaluation.metrics import softmax
from hccr_tf.evaluation.significance import wilson_interval
from hccr_tf.inference.fusion import fuse, metrics_table, search_weights
from hccr_tf.inference.logits_file import LogitsFile

CHARACTERS = "零一二三四五六七八九十百"
NUM_CLASSES = len(CHARACTERS)


@pytest.fixture
def samples():
    """Labels, and logits of three models that are right now and then."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, NUM_CLASSES, 200).astype(np.int32)
    scale = np.array([1, 3, 2]).reshape(3, 1, 1)
    logits = (scale * rng.standard_normal((3, 200, NUM_CLASSES))).astype(np.float32)
    logits[:, np.arange(200), labels] += scale[:, 0]
    return labels, logits


@pytest.fixture
def paths(samples, make_logits_file):
    labels, logits = samples
    about = {"split": "test", "data_hash": "abc"}
    made = []
    for i, z in enumerate(logits):
        recipe = {"name": f"kriuk_model{i + 1}"}
        made.append(
            make_logits_file(f"{i}.h5", z, labels, center=z[:, ::-1], recipe=recipe, **about)
        )
    return made


def numpy_metrics(logits, labels):
    order = np.argsort(-logits, axis=1, kind="stable")
    rank = (order == labels[:, None]).argmax(axis=1)
    return {
        **{f"top{k}": float((rank < k).mean()) for k in (1, 5, 10)},
        "top1_interval95": list(wilson_interval(int((rank == 0).sum()), len(labels))),
    }


def fused(logits, weights=(0.3, 0.2, 0.5)):
    return np.tensordot(weights, logits.astype(np.float64), 1)


# === Metrics ===


def test_three_models_are_fused_with_the_papers_weights(paths, samples, tmp_path):
    labels, logits = samples
    metrics = fuse(paths, tmp_path / "out")
    assert metrics["weights"] == [0.3, 0.2, 0.5]
    want = numpy_metrics(fused(logits), labels)
    assert metrics["fused"]["logits"] == want
    for i, path in enumerate(paths):
        own = numpy_metrics(logits[i], labels)
        assert metrics["models"][str(path)] == {
            "recipe": f"kriuk_model{i + 1}",
            "logits": own,
            "logits_center": numpy_metrics(logits[i][:, ::-1], labels),
        }
        assert own["top1"] < want["top1"] < want["top5"] < want["top10"]
    # Softmaxed scores, other weights or another order would give another figure.
    for other in (fused(softmax(logits)), logits.mean(0), logits[2]):
        assert numpy_metrics(other, labels)["top1"] != want["top1"]
    read = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert read == metrics
    assert (read["num_samples"], read["num_classes"]) == (200, NUM_CLASSES)
    assert (read["split"], read["data_hash"]) == ("test", "abc")
    assert len(read["charset_sha256"]) == 64 and read["command"]


def test_the_centre_crops_are_fused_where_every_file_has_them(
    paths, samples, make_logits_file, tmp_path
):
    labels, logits = samples
    metrics = fuse(paths, tmp_path / "out")
    want = numpy_metrics(fused(logits[:, :, ::-1]), labels)
    assert metrics["fused"]["logits_center"] == want
    without = make_logits_file("without.h5", logits[1], labels)
    metrics = fuse([paths[0], without, paths[2]], tmp_path / "out2")
    assert list(metrics["fused"]) == ["logits"]
    assert "logits_center" in metrics["models"][str(paths[0])]
    assert "logits_center" not in metrics["models"][str(without)]


@pytest.mark.parametrize(
    ("number", "weights", "used"),
    [
        (3, (1, 0, 0), [1, 0, 0]),
        (3, [0.1, 0.6, 0.3], [0.1, 0.6, 0.3]),
        (3, np.array([2.0, 1.0, 1.0]), [2, 1, 1]),
        (1, None, [1]),
        (2, None, [0.5, 0.5]),
    ],
)
def test_other_weights(paths, samples, tmp_path, number, weights, used):
    labels, logits = samples
    metrics = fuse(paths[:number], tmp_path / "out", weights=weights)
    assert metrics["weights"] == used
    assert metrics["fused"]["logits"] == numpy_metrics(fused(logits[:number], used), labels)


def test_reading_in_pieces_changes_nothing(paths, tmp_path, monkeypatch):
    want = fuse(paths, tmp_path / "whole")
    found = search_weights(paths)
    pieces = [slice(i, i + 7) for i in range(0, 200, 7)]
    monkeypatch.setattr(LogitsFile, "chunks", lambda self: iter(pieces))
    got = fuse(paths, tmp_path / "pieces")
    assert got == want
    assert search_weights(paths) == found
    for name in ("predictions.csv", "per_class.csv", "confused_pairs.csv"):
        assert (tmp_path / "pieces" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# === Files ===


def test_tables_and_figure(paths, samples, tmp_path):
    labels, logits = samples
    out = tmp_path / "out"
    fuse(paths, out)
    assert sorted(p.name for p in out.iterdir()) == [
        "confused_pairs.csv",
        "confused_pairs.png",
        "metrics.json",
        "per_class.csv",
        "predictions.csv",
    ]
    best = np.argsort(-fused(logits), axis=1, kind="stable")[:, :5]
    probabilities = softmax(fused(logits)).max(axis=1)
    table = rows(out / "predictions.csv")
    assert len(table) == 200
    for i, row in enumerate(table):
        assert row == {
            "sample_id": f"test/{i}",
            "character": CHARACTERS[labels[i]],
            "predicted": CHARACTERS[best[i, 0]],
            "probability": f"{probabilities[i]:.6f}",
            "correct": str(int(best[i, 0] == labels[i])),
            "top5": "".join(CHARACTERS[c] for c in best[i]),
        }
    right = best[:, 0] == labels
    table = rows(out / "per_class.csv")
    assert [row["character"] for row in table] == list(CHARACTERS)
    for i, row in enumerate(table):
        of_class = right[labels == i]
        assert (int(row["samples"]), int(row["correct"])) == (len(of_class), of_class.sum())
        assert float(row["accuracy"]) == pytest.approx(of_class.mean(), abs=1e-6)


def test_confused_pairs_most_frequent_first_and_a_class_without_samples(make_logits_file, tmp_path):
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    predicted = np.array([1, 0, 1, 2, 1, 0, 0, 0, 2])
    path = make_logits_file("a.h5", np.eye(4, dtype=np.float32)[predicted], labels)
    fuse([path], tmp_path / "out")
    assert [tuple(row.values()) for row in rows(tmp_path / "out" / "confused_pairs.csv")] == [
        ("零", "一", "2", "4"),
        ("二", "零", "2", "3"),
        ("零", "二", "1", "4"),
        ("一", "零", "1", "2"),
    ]
    assert list(rows(tmp_path / "out" / "per_class.csv")[3].values()) == ["三", "0", "0", ""]


def test_nothing_confused(make_logits_file, tmp_path):
    path = make_logits_file("a.h5", np.eye(3, dtype=np.float32), np.arange(3))
    metrics = fuse([path], tmp_path / "out")
    assert metrics["fused"]["logits"]["top1"] == 1
    assert rows(tmp_path / "out" / "confused_pairs.csv") == []
    assert (tmp_path / "out" / "confused_pairs.png").exists()


def test_the_table_shows_every_model_and_the_fusion_last(paths, tmp_path):
    metrics = fuse(paths, tmp_path / "out")
    lines = metrics_table(metrics).splitlines()
    assert len(lines) == 1 + 2 * 4
    assert lines[0].split()[:3] == ["top1", "top5", "top10"]
    assert lines[1].startswith(f"{paths[0]} five crops ")
    assert lines[-2].startswith("fused (0.3 0.2 0.5) five crops ")
    assert lines[-1].startswith("fused (0.3 0.2 0.5) center crop ")
    assert f"{100 * metrics['fused']['logits']['top1']:.2f}%" in lines[-2]


# === Refusals ===


def test_files_that_do_not_belong_together_leave_no_results(
    paths, samples, make_logits_file, tmp_path
):
    labels, logits = samples
    other = make_logits_file("other.h5", logits[0], (labels + 1) % NUM_CLASSES)
    for function in (search_weights, lambda paths: fuse(paths, tmp_path / "out")):
        with pytest.raises(ValueError, match="at least one logits file"):
            function([])
        with pytest.raises(ValueError, match="named twice; raise its weight"):
            function([paths[0], paths[1], paths[0]])
        with pytest.raises(ValueError, match=r"0\.h5 and .*other\.h5 give sample test/0 different"):
            function([paths[0], other])
    assert not (tmp_path / "out").exists()


def test_logits_that_are_not_finite_leave_no_results(samples, make_logits_file, tmp_path):
    labels, logits = samples
    logits[1, 150, 3] = np.nan
    paths = [make_logits_file(f"{i}.h5", logits[i], labels) for i in range(2)]
    with pytest.raises(ValueError, match=r"1\.h5: the logits of sample test/150 aren't finite"):
        fuse(paths, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.5], "3 logits files need 3 weights, not 2"),
        ([], "3 logits files need 3 weights, not 0"),
        ([0.5, -0.1, 0.6], "at least 0 and not all 0"),
        ([0, 0, 0], "at least 0 and not all 0"),
        ([1, np.nan, 1], "at least 0 and not all 0"),
        ([1, np.inf, 1], "at least 0 and not all 0"),
    ],
)
def test_weights_that_do_not_fit(paths, tmp_path, weights, message):
    with pytest.raises(ValueError, match=message):
        fuse(paths, tmp_path / "out", weights=weights)
    assert not (tmp_path / "out").exists()


# === Search ===


def planted(weights, make_logits_file):
    """Files on which no other weights read every sample.

    Of every two models, one is right by 1 where the other is wrong by so much that the
    pair's ratio must lie within a tenth of the planted one.
    """
    rows, labels = [], []
    for i, a in enumerate(weights):
        for j, b in enumerate(weights):
            if i == j:
                continue
            logits = np.zeros((len(weights), 4), np.float32)
            true, wrong = len(labels) % 4, (len(labels) + 1) % 4
            logits[i, true] = 1  # Right if weight i > margin * weight j.
            logits[j, wrong] = 0.95 * a / b
            rows.append(logits)
            labels.append(true)
    stacked = np.stack(rows, axis=1)
    return [make_logits_file(f"{i}.h5", z, np.array(labels)) for i, z in enumerate(stacked)]


@pytest.mark.parametrize("weights", [(0.3, 0.7), (0.3, 0.2, 0.5), (0.15, 0.25, 0.6)])
def test_planted_weights_are_found(make_logits_file, weights):
    found, accuracy = search_weights(planted(weights, make_logits_file))
    np.testing.assert_allclose(found, weights)
    assert accuracy == 1


def test_a_coarser_step_misses_them(make_logits_file):
    found, accuracy = search_weights(planted((0.3, 0.7), make_logits_file), step=0.5)
    assert found in ([0, 1], [0.5, 0.5], [1, 0]) and accuracy == 0.5


def test_the_weights_found_give_the_accuracy_that_is_told(paths, tmp_path):
    weights, accuracy = search_weights(paths)
    assert sum(weights) == pytest.approx(1)
    metrics = fuse(paths, tmp_path / "out", weights=weights)
    assert metrics["fused"]["logits"]["top1"] == pytest.approx(accuracy)
    assert accuracy >= fuse(paths, tmp_path / "out2")["fused"]["logits"]["top1"]


def test_of_equal_weights_the_most_even_win(samples, make_logits_file):
    labels, logits = samples
    paths = [make_logits_file(f"{i}.h5", logits[0], labels) for i in range(2)]
    assert search_weights(paths)[0] == [0.5, 0.5]
