"""A network as an ONNX file: for ONNX Runtime, which the package reads with, and most engines."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hccr_tf.export.pack import quantized
from hccr_tf.inference.onnx_predictor import INPUT, METADATA, OUTPUT, OnnxPredictor

_SMALL = 1024  # values of an array that isn't worth compressing
_CLASS_AXIS = {"Conv": 0, "MatMul": 1, "Gemm": 1}  # of the weights' output channels


def write(network: keras.Model, file: Path, facts: dict, quantize: str | None) -> None:
    """Writes a file; the facts are its metadata."""
    network(np.zeros((1, *network.input_shape[1:]), np.uint8))  # or Keras refuses
    network.export(file, format="onnx", verbose=False)
    graph = onnx.load(file)
    _rename(graph.graph)
    if quantize:
        compress(graph.graph, quantize)
    helper.set_model_props(graph, {METADATA: json.dumps(facts, ensure_ascii=False)})
    onnx.save(graph, file)


def read(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what computes logits (B, C) of prepared images."""
    return OnnxPredictor(file).logits


def _rename(graph: onnx.GraphProto) -> None:
    """Gives input, output and the dimension of the batch names that last."""
    names = {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}
    for value in (graph.input[0], graph.output[0]):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]


def compress(graph: onnx.GraphProto, kind: str) -> None:
    """Stores kernels in 16 or 8 bits, and adds what makes them floats again."""
    axes = {
        node.input[1]: _CLASS_AXIS[node.op_type]
        for node in graph.node
        if node.op_type in _CLASS_AXIS
    }
    nodes = []
    for stored in list(graph.initializer):
        array, name = numpy_helper.to_array(stored), stored.name
        if name not in axes or array.size < _SMALL or array.dtype != np.float32:
            continue
        graph.initializer.remove(stored)
        small = f"{name}_{kind}"
        if kind == "float16":
            graph.initializer.append(numpy_helper.from_array(array.astype(np.float16), small))
            nodes.append(helper.make_node("Cast", [small], [name], to=TensorProto.FLOAT))
            continue
        integers, scale = quantized(array, axes[name])
        graph.initializer.append(numpy_helper.from_array(integers, small))
        graph.initializer.append(numpy_helper.from_array(scale.ravel(), f"{name}_scale"))
        inputs = [small, f"{name}_scale"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], axis=axes[name]))
    for node in nodes:
        graph.node.insert(0, node)
