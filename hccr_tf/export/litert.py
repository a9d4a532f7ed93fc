"""A network as a LiteRT file (.tflite): for telephones and small devices."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from hccr_tf.inference.onnx_predictor import INPUT, METADATA, OUTPUT


def write(network: keras.Model, file: Path, facts: dict, quantize: str | None, images) -> None:
    """Writes a file; its one signature is "serving_default".

    All operators are LiteRT's own, so that the smallest runtime will do. With int8 the values
    that weights are multiplied by are made int8 too, image by image.
    """
    image = tf.TensorSpec((None, *network.input_shape[1:]), tf.uint8, name=INPUT)
    call = tf.function(lambda image: network(image, training=False), [image])
    # Keras's own export takes twice as long, and lets in operators of TensorFlow.
    owner = tf.Module()  # variables that nothing owns would be left out
    owner.weights = [variable.value for variable in network.weights]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [call.get_concrete_function()], owner
    )
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    file.write_bytes(converter.convert())
    # As files that go with a model are: an archive behind it, which any unzip opens.
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(f"{METADATA}.json", json.dumps(facts, ensure_ascii=False))


def read(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what computes logits (B, C) of prepared images."""
    signature = Interpreter(str(file)).get_signature_runner()
    return lambda images: signature(**{INPUT: images})[OUTPUT]
