from collections import Counter

import numpy as np
import pytest

from hccr_tf.evaluation.metrics import Evaluation, softmax, true_rank
from hccr_tf.evaluation.significance import paired, wilson_interval


def draw(count=500, num_classes=23, seed=0):
    """Logits with many ties, and labels that they often point to."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, count)
    logits = rng.integers(-4, 5, (count, num_classes)).astype(np.float32)
    logits[np.arange(count), labels] += rng.integers(0, 5, count)
    return logits, labels


def evaluate(logits, labels, pieces=1):
    result = Evaluation(logits.shape[1])
    for part in np.array_split(np.arange(len(labels)), pieces):
        result.add(logits[part], labels[part])
    return result


# === Softmax and ranks ===


def test_softmax_by_hand():
    got = softmax(np.log(np.array([[1.0, 2.0, 5.0]])))
    np.testing.assert_allclose(got, [[0.125, 0.25, 0.625]])
    assert softmax(np.zeros((2, 3, 4), np.float32)).dtype == np.float64
    large = softmax(np.array([[1e4, 1e4, -1e4], [-1e4, -1e4 - 1, -2e4]], np.float32))
    np.testing.assert_allclose(large[0], [0.5, 0.5, 0])
    np.testing.assert_allclose(large[1], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), 0])


def test_rank_equals_a_stable_sort():
    logits, labels = draw()
    order = np.argsort(-logits, axis=1, kind="stable")
    want = (order == labels[:, None]).argmax(axis=1)
    np.testing.assert_array_equal(true_rank(logits, labels), want)
    np.testing.assert_array_equal(true_rank(logits, labels) == 0, logits.argmax(axis=1) == labels)
    for dtype in (np.uint8, np.int32, np.int64):
        np.testing.assert_array_equal(true_rank(logits, labels.astype(dtype)), want)


# === Intervals ===


@pytest.mark.parametrize(
    ("correct", "total", "interval"),
    [
        # Newcombe 1998, table I, method 3.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (20, 20, (0.8389, 1.0)),
    ],
)
def test_wilsons_interval(correct, total, interval):
    got = wilson_interval(correct, total)
    np.testing.assert_allclose(got, interval, atol=5e-5)
    assert 0 <= got[0] <= correct / total <= got[1] <= 1
    with pytest.raises(ValueError, match="at least one sample"):
        wilson_interval(0, 0)


# === Counts ===


@pytest.mark.parametrize("pieces", [1, 2, 7, 500])
def test_counts_equal_brute_force_however_samples_are_batched(pieces):
    logits, labels = draw()
    result = evaluate(logits, labels, pieces)
    best = [sorted(range(23), key=lambda c: (-row[c], c)) for row in logits.tolist()]
    ranks = np.array([row.index(label) for row, label in zip(best, labels, strict=True)])
    pairs = zip(labels.tolist(), (row[0] for row in best), strict=True)
    confusions = Counter((label, first) for label, first in pairs if label != first)
    assert result.total == 500
    assert result.correct == {k: (ranks < k).sum() for k in (1, 5, 10)}
    assert 0 < result.correct[1] < result.correct[5] < result.correct[10] < 500
    assert result.class_total.tolist() == np.bincount(labels, minlength=23).tolist()
    right = labels[ranks == 0]
    assert result.class_correct.tolist() == np.bincount(right, minlength=23).tolist()
    assert result.confusions == confusions and confusions.total() == 500 - len(right)


@pytest.mark.parametrize(
    ("num_classes", "names"),
    [(5, ["top1"]), (6, ["top1", "top5"]), (11, ["top1", "top5", "top10"])],
)
def test_metrics_without_a_top_k_of_which_every_class_is_part(num_classes, names):
    logits, labels = draw(num_classes=num_classes)
    metrics = evaluate(logits, labels).metrics()
    correct = int((logits.argmax(axis=1) == labels).sum())
    assert list(metrics) == [*names, "top1_interval95"]
    assert metrics["top1"] == correct / 500
    assert metrics["top1_interval95"] == list(wilson_interval(correct, 500))
    # A constant model is right by chance only.
    constant = evaluate(np.zeros((20, num_classes)), np.arange(20) % num_classes)
    assert constant.metrics()["top1"] == (np.arange(20) % num_classes == 0).mean()


def test_mcnemar_by_hand():
    first = np.array([1, 1, 1, 1, 0, 1, 1], bool)
    second = np.array([1, 0, 0, 0, 1, 1, 1], bool)
    # Three against one of four: 2 (1 + 4) / 16.
    assert list(paired(first, second).values()) == [-28.571, 3, 1, 0.625]
    assert list(paired(second, first).values()) == [28.571, 1, 3, 0.625]
    assert list(paired(first, first).values()) == [0, 0, 0, 1.0]
    many = np.arange(4000) < 2400
    assert paired(many, ~many)["p"] < 1e-30
