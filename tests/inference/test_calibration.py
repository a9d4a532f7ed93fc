"""Temperatures and reliability against values known beforehand."""

import numpy as np
import pytest

from hccr_tf.evaluation.metrics import softmax
from hccr_tf.inference.calibration import find_temperature, reliability


def _true_logits(count=20_000, classes=6, seed=0):
    """Logits whose softmax is the very distribution that the labels are drawn from."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((count, classes))
    gumbel = -np.log(-np.log(rng.random((count, classes))))
    return logits, (logits + gumbel).argmax(axis=1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_a_known_factor(factor):
    logits, labels = _true_logits()
    assert find_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)


def test_a_few_images_that_are_all_right_make_nobody_sure():
    # Each is right with a probability of 2/3 as it is; of ten, 11/12 is the most to be claimed.
    logits = np.log(np.tile([0.25, 0.5, 0.0 + 1e-300], (10, 1)))
    labels = np.full(10, 1)
    temperature = find_temperature(logits, labels)
    assert temperature == pytest.approx(np.log(2) / np.log(11), abs=2e-3)
    # What is sure already isn't made less so.
    assert find_temperature(20 * logits, labels) == 1.0


def test_classes_that_do_not_compete_count_for_nothing():
    logits, labels = _true_logits(2000)
    masked = np.concatenate([logits, np.full((2000, 3), -np.inf)], axis=1)
    assert find_temperature(masked, labels) == pytest.approx(find_temperature(logits, labels))


def test_reliability_by_hand():
    claimed = np.array([0.95, 0.95, 0.95, 0.95, 0.35])
    right = np.array([True, True, True, False, False])
    table, error = reliability(claimed, right)
    assert table["samples"].tolist() == [1, 4]
    assert table["accuracy"].tolist() == [0.0, 0.75]
    assert error == pytest.approx((4 * 0.2 + 1 * 0.35) / 5)


def test_reliability_is_small_where_claims_are_true_and_large_where_not():
    logits, labels = _true_logits()
    for factor, low, high in ((1, 0, 0.015), (4, 0.1, 1)):
        shares = softmax(factor * logits)
        error = reliability(shares.max(axis=1), shares.argmax(axis=1) == labels)[1]
        assert low <= error < high
