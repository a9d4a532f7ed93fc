"""A network as an ONNX file: for ONNX Runtime, which the package reads with, and most engines."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from hccr_tf.export.pack import quantized
from hccr_tf.inference.onnx_predictor import INPUT, METADATA, OUTPUT, OnnxPredictor

_SMALL = 1024  # values of an array that isn't worth compressing
_CLASS_AXIS = {"Conv": 0, "MatMul": 1, "Gemm": 1}  # of the weights' output channels
_IN_EIGHT_BITS = ["Conv", "Add", "Relu"]
_BATCH = 16


def write(
    network: keras.Model, file: Path, facts: dict, quantize: str | None, images: np.ndarray
) -> None:
    """Writes a file; the facts are its metadata, and int8's scales come from the images.

    int8_weights are kept in eight bits, and multiplied as floats.
    """
    network(np.zeros((1, *network.input_shape[1:]), np.uint8))  # or Keras refuses
    network.export(file, format="onnx", verbose=False)
    graph = onnx.load(file)
    _rename(graph.graph)
    if quantize in ("float16", "int8_weights"):
        compress(graph.graph, quantize)
    elif quantize == "int8":
        graph = in_eight_bits(graph, images)
        compress(graph.graph, "int8_weights")  # dense layers: logits in 256 steps would be equal
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
    """Stores kernels in 16 or 8 bits, and adds what makes them floats when the file is opened."""
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
        scale = None
        if kind == "float16":
            array = array.astype(np.float16)
        else:
            array, scale = quantized(array, axes[name])
            graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        graph.initializer.append(numpy_helper.from_array(array, f"{name}_small"))
        floats = name if scale is None else f"{name}_floats"
        nodes.append(helper.make_node("Cast", [f"{name}_small"], [floats], to=TensorProto.FLOAT))
        if scale is not None:
            nodes.append(helper.make_node("Mul", [floats, f"{name}_scale"], [name]))
    for node in reversed(nodes):
        graph.node.insert(0, node)


def in_eight_bits(graph: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """Returns a network that multiplies integers.

    Kernels have a scale for each output channel, values between layers one for each layer, from
    the smallest and largest that the images bring about. Kernels take seven of the eight bits:
    products of pairs then fit the sixteen that processors without VNNI add them in, so all
    processors read alike.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, prepared, written = (Path(folder) / f"{i}.onnx" for i in range(3))
        onnx.save(graph, whole)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            written,
            _Images(images),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=_IN_EIGHT_BITS,
        )
        return onnx.load(written)


class _Images(CalibrationDataReader):
    """Images in batches, until there are none."""

    def __init__(self, images: np.ndarray):
        starts = range(0, len(images), _BATCH)
        self._batches = iter([{INPUT: images[s : s + _BATCH]} for s in starts])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)
