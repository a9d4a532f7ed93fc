"""The only training loop, a run's start and continuation, and its reports."""

from hccr_tf.training.trainer import Trainer, train

__all__ = ["Trainer", "train"]
