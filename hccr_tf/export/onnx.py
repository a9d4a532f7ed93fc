"""Write a run as one ONNX file: weights, characters and preparation, for any engine."""

import contextlib
import io
import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hccr_tf.export.pack import quantized
from hccr_tf.inference.onnx_predictor import INPUT, METADATA, OUTPUT, OnnxPredictor
from hccr_tf.inference.predictor import Predictor
from hccr_tf.inference.recognizer import read_temperature
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.models.weights import read_checksum
from hccr_tf.synthesis.deform import centre_lines, draw
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.synthesis.style import HandwritingStyle
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write

_BOUNDS = {None: 1e-3, "float16": 0.01, "int8": 0.1}
"""By how much logits may differ from Keras's, as a part of how much these vary."""
_SMALL = 1024  # values of an array that isn't worth compressing
_CLASS_AXIS = {"Conv": 0, "MatMul": 1, "Gemm": 1}  # of the weights' output channels


@dataclass(frozen=True)
class Export:
    """What was written, and how it compares with Keras on drawn characters."""

    path: Path
    num_bytes: int
    largest_difference: float  # of logits
    equal_answers: float  # share of the images
    num_images: int


def export_onnx(workdir: str | Path, out: str | Path, *, quantize: str | None = None) -> Export:
    """Writes a run's prediction network as an ONNX file, and compares the two.

    The file takes "image", uint8 (B, H, W, 1), and gives "logits", float32 (B, C), for any B. It
    carries characters, preprocessing and temperature, so `Recognizer(out)` needs nothing else.

    Args:
        workdir: a trained run, or "recogniser".
        out: the file to write.
        quantize: how weights are stored: None as they are; "float16"; or "int8", with a scale for
            each output channel. Arithmetic stays in float32.

    Raises:
        HccrError: no run, an unknown `quantize`, or answers too far from Keras's; nothing is
            written then.
    """
    if quantize not in _BOUNDS:
        raise HccrError(f"quantize is float16 or int8, not {quantize!r}.")
    predictor, out = Predictor(workdir), Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        written = Path(folder) / out.name
        graph = _converted(predictor, written)
        _rename(graph.graph)
        if quantize:
            _compress(graph.graph, quantize)
        facts = {
            "characters": predictor.charset.text,
            "preprocessing": predictor.preprocessing.to_dict(),
            "temperature": read_temperature(predictor.workdir.path),
            "recipe": predictor.recipe.name,
            "weights_sha256": read_checksum(predictor.workdir.prediction_weights),
        }
        helper.set_model_props(graph, {METADATA: json.dumps(facts, ensure_ascii=False)})
        onnx.save(graph, written)
        exported = _compared(predictor, written, _BOUNDS[quantize])
        with atomic_write(out) as temporary:
            written.replace(temporary)
    return Export(out, *exported)


def _converted(predictor: Predictor, file: Path) -> onnx.ModelProto:
    """Has Keras convert the network, its main output alone."""
    model = keras.Model(predictor.model.input, predictor.model.output[MAIN_OUTPUT])
    model(np.zeros((1, *predictor.preprocessing.image_shape), np.uint8))  # or Keras refuses
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the converter's own calls of NumPy
        model.export(file, format="onnx", verbose=False)
    return onnx.load(file)


def _rename(graph: onnx.GraphProto) -> None:
    """Gives input, output and the dimension of the batch names that last."""
    names = {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}
    for value in (graph.input[0], graph.output[0]):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]


def _compress(graph: onnx.GraphProto, kind: str) -> None:
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


def _compared(predictor: Predictor, file: Path, bound: float) -> tuple[int, float, float, int]:
    """Reads drawn characters with both."""
    characters = [centre_lines(lines) for lines in load_strokes().values()] * 4
    counts = np.array([len(lines) for lines in characters])
    seeds = [(2013, i) for i in range(len(characters))]
    images = draw(np.concatenate(characters), counts, seeds, HandwritingStyle())
    prepared = predictor.preprocessing.apply_many(images)
    ours, theirs = predictor.logits(prepared), OnnxPredictor(file).logits(prepared)
    difference = float(abs(ours - theirs).max())
    if not difference <= bound * max(float(ours.std()), 1e-6):
        raise HccrError(
            f"The exported network's logits differ from Keras's by up to {difference:.3g}, which "
            f"is more than {bound:g} of how much they vary; nothing was written."
        )
    equal = float((ours.argmax(1) == theirs.argmax(1)).mean())
    return file.stat().st_size, difference, equal, len(images)
