"""Which framework Keras runs on, its start without noise, and what Keras itself doesn't offer."""

import os
import re
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from hccr_tf.utils.errors import HccrError

_NOTE = re.compile(r"WARNING: All log messages before|[IW]\d{4} |To enable the following")


def choose() -> None:
    """Takes JAX where nothing was chosen and TensorFlow isn't installed.

    Keras takes TensorFlow unless told otherwise, and fails where there's none. Machines
    with only JAX exist, and everything but tf.data and tf.distribute works there.
    """
    if "KERAS_BACKEND" not in os.environ and find_spec("tensorflow") is None and find_spec("jax"):
        os.environ["KERAS_BACKEND"] = "jax"


def start() -> None:
    """Imports Keras, finds its devices and prints them, without TensorFlow's notes.

    The notes are written past Python's own stderr, so its file is put aside for a
    moment. Errors are passed on; TF_CPP_MIN_LOG_LEVEL=0 shows everything.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import keras

            devices = keras.distribution.list_devices()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            notes.seek(0)
            for line in notes.read().decode(errors="replace").splitlines():
                # Without a GPU, CUDA's failure to start is no fault either.
                if not _NOTE.match(line) and "cuInit" not in line:
                    print(line, file=sys.stderr)
    print(f"{keras.backend.backend()} on {', '.join(devices)}", file=sys.stderr)


def input_gradient(function: Callable, inputs: np.ndarray) -> np.ndarray:
    """Gradient of a function's sum with regard to its input.

    Args:
        function: from one tensor to another, made of Keras layers and operations.
        inputs: float array.

    Returns:
        An array of the inputs' shape.
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
