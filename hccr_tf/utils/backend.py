"""The framework that Keras runs on: its choice, its quiet start, and what Keras doesn't offer."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hccr_tf.utils.errors import HccrError

if TYPE_CHECKING:
    import numpy as np

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_NOTE = re.compile(r"WARNING: All log messages before|[IW]\d{4} |To enable the following")


def choose() -> None:
    """Takes JAX where nothing was chosen and TensorFlow isn't installed, and no notes.

    Keras takes TensorFlow unless told otherwise, and fails where there's none.
    """
    if "KERAS_BACKEND" not in os.environ and find_spec("tensorflow") is None and find_spec("jax"):
        os.environ["KERAS_BACKEND"] = "jax"
    # Without a GPU, CUDA's failure to start is logged as an error.
    os.environ.setdefault(_LEVEL, "2" if Path("/dev/nvidiactl").exists() else "3")


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Keeps TensorFlow's notes at its import from stderr; TF_CPP_MIN_LOG_LEVEL=0 shows them.

    They're written past Python's own stderr and before any level counts, so its file is put aside
    for a moment; everything else is passed on.
    """
    if "tensorflow" in sys.modules or os.environ.get(_LEVEL) == "0":
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            notes.seek(0)
            for line in notes.read().decode(errors="replace").splitlines():
                if not _NOTE.match(line):
                    print(line, file=sys.stderr)


def prepare_fit() -> None:
    """Imports TensorFlow where there is one: Keras's `fit` looks for it on every backend."""
    if find_spec("tensorflow"):
        with without_notes():
            import_module("tensorflow")


def start(framework: str | None = None) -> None:
    """Imports Keras, finds its devices and prints them.

    Args:
        framework: what Keras has to run on; what was chosen if None.
    """
    if framework:
        os.environ["KERAS_BACKEND"] = framework
    with without_notes():
        import keras
    devices = ", ".join(keras.distribution.list_devices())
    print(f"{keras.backend.backend()} on {devices}", file=sys.stderr)


def input_gradient(function: Callable, inputs: np.ndarray) -> np.ndarray:
    """Computes the gradient of a function's sum with regard to its input, of the input's shape.

    Args:
        function: from one tensor to another, made of Keras layers and operations.
        inputs: float array.
    """
    import keras

    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        tensor = tf.convert_to_tensor(inputs)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            total = keras.ops.sum(function(tensor))
        gradient = tape.gradient(total, tensor)
    elif name == "jax":
        import jax

        gradient = jax.grad(lambda x: keras.ops.sum(function(x)))(inputs)
    elif name == "torch":
        import torch

        tensor = torch.tensor(inputs, requires_grad=True)
        (gradient,) = torch.autograd.grad(keras.ops.sum(function(tensor)), tensor)
    else:
        raise HccrError(f"Gradients aren't to be had on Keras's backend {name!r}.")
    return keras.ops.convert_to_numpy(gradient)
