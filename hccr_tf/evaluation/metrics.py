"""Accuracy and confusions of logits, gathered batch by batch."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from hccr_tf.evaluation.significance import wilson_interval

TOP_K = (1, 5, 10)


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 (..., C) probabilities of logits (..., C) (Kriuk & Kriuk 2024, eq. 4)."""
    shifted = np.asarray(logits, np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def most_probable(logits: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks classes by their logits; of equal ones the lower class comes first, as in `argmax`.

    Returns:
        The best classes of logits (..., C), int64 (..., top_k), and their softmax probabilities,
        float64.
    """
    left = np.array(logits, np.float64).reshape(-1, np.shape(logits)[-1])
    rows, order = np.arange(len(left)), []
    for _ in range(min(top_k, left.shape[1])):  # sorting thousands of classes takes longer
        order.append(left.argmax(axis=1))
        left[rows, order[-1]] = -np.inf
    best = np.stack(order, axis=1).reshape(*np.shape(logits)[:-1], -1)
    return best, np.take_along_axis(softmax(logits), best, axis=-1)


def true_rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts the classes before the true one: int64 (B,), of logits (B, C) and labels int (B,).

    Of equal logits the lower class comes first, as in `argmax`, so a model that gives
    every class the same logit isn't counted as right.
    """
    own = np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)
    before = np.arange(logits.shape[1]) < labels[:, None]
    return ((logits > own) | ((logits == own) & before)).sum(axis=1)


@dataclass
class Evaluation:
    """Counts over a stream of batches."""

    num_classes: int
    total: int = 0  # samples seen
    # By k of `TOP_K`: samples whose true class is among the first k.
    correct: dict[int, int] = field(default_factory=lambda: dict.fromkeys(TOP_K, 0))
    class_total: np.ndarray = field(init=False)  # int64 (C,), samples by true class
    class_correct: np.ndarray = field(init=False)  # int64 (C,), those read rightly
    # By (true class, predicted class): wrong predictions.
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
        shares = {
            f"top{k}": n / self.total for k, n in self.correct.items() if k < self.num_classes
        }
        interval = list(wilson_interval(self.correct[1], self.total))
        return {**shares, "top1_interval95": interval}
