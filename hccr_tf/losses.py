"""Losses on logits and sparse labels, by name.

Nothing here makes a dense one-hot target: at 7,330 classes it would be as large as the
logits themselves, for each of five heads.
"""

import inspect
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from hccr_tf.utils.errors import HccrError, unknown

_FLOOR = 1e-30  # keeps powers of 1 - p differentiable where float32 rounds p to 1


@keras.saving.register_keras_serializable("hccr_tf")
class CategoricalFocalLoss(keras.losses.Loss):
    """α-balanced focal cross-entropy on the softmax (Kriuk & Kriuk 2024, eq. 2).

    FCE(p_t) = -α_t (1 - p_t)^γ log p_t, with p_t the softmax at the true class. Equals
    `keras.losses.CategoricalFocalCrossentropy` on one-hot targets, but its gradient
    doesn't vanish where that one clips the probability at 1e-7. From labels, int (B,) or (B, 1),
    and logits, float (B, C), to float (B,).

    Args:
        gamma: γ, at least 0; the paper takes 4.
        alpha: one weight, or one for each class (length C).
        label_smoothing: share of the target spread evenly over all classes: the focal
            term is mixed with the plain cross-entropy against uniform targets, both
            weighted by α. 0 is the paper's loss.
    """

    def __init__(
        self,
        gamma: float = 4.0,
        alpha: float | Sequence[float] = 0.25,
        label_smoothing: float = 0.0,
        name: str = "categorical_focal",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if gamma < 0:
            raise HccrError(f"gamma is at least 0, not {gamma}.")
        if not 0 <= label_smoothing < 1:
            raise HccrError(f"label_smoothing lies in [0, 1), not {label_smoothing}.")
        self.gamma = float(gamma)
        self.alpha = np.asarray(alpha, "float32").tolist()
        self.label_smoothing = float(label_smoothing)

    def call(self, y_true, y_pred):
        log_probs = ops.log_softmax(ops.cast(y_pred, "float32"), axis=-1)
        log_p = _take_true(log_probs, y_true)
        loss = -log_p
        if self.gamma:
            rest = ops.maximum(-ops.expm1(log_p), _FLOOR)
            loss = ops.power(rest, self.gamma) * loss
        if self.label_smoothing:
            uniform = -ops.mean(log_probs, axis=-1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * uniform
        if isinstance(self.alpha, float):
            return self.alpha * loss
        alpha = ops.convert_to_tensor(self.alpha, "float32")
        return ops.take(alpha, _flat_labels(y_true), axis=0) * loss

    def get_config(self):
        return {
            **super().get_config(),
            "gamma": self.gamma,
            "alpha": self.alpha,
            "label_smoothing": self.label_smoothing,
        }


@keras.saving.register_keras_serializable("hccr_tf")
class BinaryFocalLoss(keras.losses.Loss):
    """Class-balanced binary focal loss over C sigmoids (Kriuk & Kriuk 2024, released code).

    Equals `keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True,
    from_logits=True)` on one-hot targets: the mean over the C classes of
    -α (1 - σ)^γ log σ at the true class and -(1 - α) σ^γ log(1 - σ) at the others. From labels,
    int (B,) or (B, 1), and logits, float (B, C), to float (B,).

    Args:
        gamma: γ, at least 0; the code takes 4.
        alpha: weight of the true class, in [0, 1]; the code takes 0.25.
    """

    def __init__(
        self, gamma: float = 4.0, alpha: float = 0.25, name: str = "binary_focal", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        if gamma < 0:
            raise HccrError(f"gamma is at least 0, not {gamma}.")
        if np.ndim(alpha) or isinstance(alpha, str):
            raise HccrError("The binary focal loss takes one number as alpha, for all classes.")
        if not 0 <= alpha <= 1:
            raise HccrError(f"alpha lies in [0, 1], not {alpha}.")
        self.gamma = float(gamma)
        self.alpha = float(alpha)

    def call(self, y_true, y_pred):
        logits = ops.cast(y_pred, "float32")
        true_logit = _take_true(logits, y_true)
        # σ(z)^γ = exp(-γ softplus(-z)) stays exact where σ itself would round to 0 or 1.
        absent = _sigmoid_focal(-logits, self.gamma)
        total = ops.sum(absent, axis=-1) - _sigmoid_focal(-true_logit, self.gamma)
        present = _sigmoid_focal(true_logit, self.gamma)
        return (self.alpha * present + (1 - self.alpha) * total) / logits.shape[-1]

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "alpha": self.alpha}


@keras.saving.register_keras_serializable("hccr_tf")
class CrossEntropyLoss(CategoricalFocalLoss):
    """Plain cross-entropy: γ = 0, α = 1."""

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy", **kwargs):
        super().__init__(gamma=0.0, alpha=1.0, label_smoothing=label_smoothing, name=name, **kwargs)

    def get_config(self):
        config = super().get_config()
        del config["gamma"], config["alpha"]
        return config


LOSSES = {
    "categorical_focal": CategoricalFocalLoss,
    "binary_focal": BinaryFocalLoss,
    "cross_entropy": CrossEntropyLoss,
}


def create_loss(name: str, class_counts: np.ndarray | None = None, **arguments):
    """A loss of `LOSSES` by name, with its own arguments.

    `alpha="class_frequency"` makes one weight a class of `class_counts`, the training samples by
    class: inverse to its frequency, with mean 1 over the samples.

    Raises:
        HccrError: unknown name, or class counts missing or zero where they're needed.
    """
    known = loss_arguments(name)
    for argument in sorted(set(arguments) - known):
        raise unknown(f"argument of {name}", argument, sorted(known))
    if arguments.get("alpha") == "class_frequency":
        if class_counts is None:
            raise HccrError('alpha="class_frequency" needs the class counts of a store.')
        arguments["alpha"] = class_frequency_weights(class_counts)
    return LOSSES[name](**arguments)


def loss_arguments(name: str) -> set[str]:
    """Names of a loss's own arguments; ValueError for an unknown loss."""
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return set(inspect.signature(LOSSES[name]).parameters) - {"name", "kwargs"}


def class_frequency_weights(class_counts: np.ndarray) -> np.ndarray:
    """float32 (C,): N / (C n_c), so that every class weighs the same in total.

    A class without samples gets the weight of one with a single sample: it can't
    occur in training, and an infinity would spoil the rest.
    """
    counts = np.maximum(np.asarray(class_counts, np.float64), 1)
    return (np.sum(class_counts) / (len(counts) * counts)).astype(np.float32)


def _flat_labels(y_true):
    return ops.cast(ops.reshape(y_true, (-1,)), "int32")


def _take_true(values, y_true):
    labels = _flat_labels(y_true)[:, None]
    return ops.squeeze(ops.take_along_axis(values, labels, axis=-1), axis=-1)


def _sigmoid_focal(logits, gamma):
    """(1 - σ)^γ · (-log σ) of logits."""
    return ops.exp(-gamma * ops.softplus(logits)) * ops.softplus(-logits)
