"""A network as TensorFlow's SavedModel: for TensorFlow Serving, and programs in C++, Java or Go."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from hccr_tf.inference.onnx_predictor import INPUT, METADATA, OUTPUT
from hccr_tf.utils.files import write_json


def write(network: keras.Model, folder: Path, facts: dict, quantize: None, images) -> None:
    """Writes a folder; its one signature is "serving_default"."""
    network.export(folder, format="tf_saved_model", verbose=False)
    extra = folder / "assets.extra"  # which TensorFlow leaves to others
    extra.mkdir()
    write_json(extra / f"{METADATA}.json", facts)


def read(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what computes logits (B, C) of prepared images."""
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    return lambda images: signature(**{INPUT: tf.constant(images)})[OUTPUT].numpy()
