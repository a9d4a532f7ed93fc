"""Accuracy, confusions and intervals, gathered batch by batch.

NumPy only: what is scored are logits, wherever they came from.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from hccr_tf.utils.errors import HccrError

TOP_K = (1, 5, 10)
_CONFIDENCE_Z = 1.959963985  # two-sided 95 %


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 (..., C) probabilities of logits (..., C) (Kriuk & Kriuk 2024, eq. 4)."""
    shifted = np.asarray(logits, np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def most_probable(logits: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks classes by their logits; of equal ones the lower class comes first, as in `argmax`.

    Args:
        logits: float (..., C).
        top_k: how many classes.

    Returns:
        The best classes, int64 (..., top_k), and their softmax probabilities, float64.
    """
    order = np.argsort(-logits, axis=-1, kind="stable")[..., :top_k]
    return order, np.take_along_axis(softmax(logits), order, axis=-1)


def true_rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int64 (B,): how many classes come before the true one.

    Of equal logits the lower class comes first, as in `argmax`, so a model that gives
    every class the same logit isn't counted as right.

    Args:
        logits: float (B, C).
        labels: int (B,).
    """
    own = np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)
    before = np.arange(logits.shape[1]) < labels[:, None]
    return ((logits > own) | ((logits == own) & before)).sum(axis=1)


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927).

    Example:
        >>> [round(x, 3) for x in wilson_interval(90, 100)]
        [0.826, 0.945]
    """
    if total < 1:
        raise HccrError("An interval needs at least one sample.")
    z, p = _CONFIDENCE_Z, correct / total
    centre = p + z * z / (2 * total)
    spread = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return (max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Whether two models that read the same samples differ (McNemar 1947, exact).

    Args:
        first, second: bool (N,), which samples each reads rightly.

    Returns:
        Samples that only the first reads rightly, those that only the second does, and the
        two-sided probability of a difference at least as great if both were equally good.

    Example:
        >>> mcnemar(np.array([1, 1, 1, 1, 1, 0], bool), np.array([0, 0, 0, 0, 0, 0], bool))
        (5, 0, 0.0625)
    """
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, i) for i in range(fewer + 1))
    return only_first, only_second, min(1.0, 2 * tail / 2**total)


@dataclass
class Evaluation:
    """Counts over a stream of batches.

    Attributes:
        num_classes: C.
        total: samples seen.
        correct: by k of `TOP_K`, samples whose true class is among the first k.
        class_total: int64 (C,), samples by true class.
        class_correct: int64 (C,), those read rightly.
        confusions: by (true class, predicted class), wrong predictions.
    """

    num_classes: int
    total: int = 0
    correct: dict[int, int] = field(default_factory=lambda: dict.fromkeys(TOP_K, 0))
    class_total: np.ndarray = None
    class_correct: np.ndarray = None
    confusions: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.class_total = np.zeros(self.num_classes, np.int64)
        self.class_correct = np.zeros(self.num_classes, np.int64)

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Counts a batch: logits float (B, C), labels int (B,)."""
        rank = true_rank(logits, labels)
        self.total += len(labels)
        for k in self.correct:
            self.correct[k] += int((rank < k).sum())
        wrong = rank > 0
        self.class_total += np.bincount(labels, minlength=self.num_classes)
        self.class_correct += np.bincount(labels[~wrong], minlength=self.num_classes)
        predicted = logits[wrong].argmax(axis=1)
        self.confusions.update(zip(labels[wrong].tolist(), predicted.tolist(), strict=True))

    def metrics(self) -> dict[str, float | list[float]]:
        """Top-k accuracies in [0, 1] for k below the number of classes, with an interval."""
        known = {k: n for k, n in self.correct.items() if k < self.num_classes}
        result = {f"top{k}": n / self.total for k, n in known.items()}
        result["top1_interval95"] = list(wilson_interval(self.correct[1], self.total))
        return result
