"""The only training loop, its callbacks and a run's start and continuation."""

from hccr_tf.training.trainer import train

__all__ = ["train"]
