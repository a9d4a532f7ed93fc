"""Write a run as a file for other engines, and hold its answers against Keras's.

A format is a module of this room with `write`, which makes the file of a network, and `read`,
which returns what computes logits with it.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from hccr_tf.data.dataset import Dataset
from hccr_tf.data.opening import open_dataset
from hccr_tf.inference.onnx_predictor import OUTPUT
from hccr_tf.inference.predictor import Predictor
from hccr_tf.inference.recognizer import read_temperature
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.models.weights import read_checksum
from hccr_tf.synthesis.deform import centre_lines, draw
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.synthesis.style import HandwritingStyle
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write, replace_directory

logger = logging.getLogger(__name__)


class Format(NamedTuple):
    """How the names of a format's files end, and how it can store weights."""

    suffix: str
    quantize: tuple[str, ...]


FORMATS = {
    "onnx": Format(".onnx", ("float16", "int8")),
    "litert": Format(".tflite", ("float16", "int8")),
    "saved_model": Format("", ()),
}
_BOUNDS = {None: 1e-3, "float16": 0.01, "int8": 0.2}
"""By how much logits may differ from Keras's: root mean square, in standard deviations of these."""
_INSTEAD: dict[tuple[str, str | None], tuple[str, ...]] = {("onnx", "int8"): ("int8_weights",)}
"""What is written where a kind reads otherwise: networks of few images have uneven values."""
_NUM_IMAGES, _NUM_COMPARED = 512, 64


@dataclass(frozen=True)
class Export:
    """What was written, and how it compares with Keras on some images."""

    path: Path
    num_bytes: int
    largest_difference: float  # of logits
    equal_answers: float  # share of the images
    num_images: int


def export_run(
    workdir: str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    quantize: str | None = None,
    data: str | Path | Dataset | None = None,
) -> Export:
    """Writes a run's prediction network for other engines, and reads images with both.

    What is written takes "image", uint8 (B, H, W, 1), and gives "logits", float32 (B, C), of the
    main output, for any B. It carries characters, preprocessing and temperature as JSON: an ONNX
    file among its metadata, so `Recognizer(out)` needs nothing else; a LiteRT file as hccr_tf.json
    in the zip archive at its end; a SavedModel as assets.extra/hccr_tf.json.

    Args:
        workdir: a trained run, of whatever backend, or "recogniser".
        out: the file to write, or the new folder of a SavedModel.
        format: "onnx", "litert" or "saved_model"; told from the suffix of `out` if None.
        quantize: None for weights as they are; "float16" for weights stored so; "int8" for weights
            with a scale for each output channel, and integers multiplied: a quarter of the size,
            and two to four times as fast. Where integers read otherwise, ONNX files compute in
            floats, and are as small. A SavedModel takes None only.
        data: a dataset or its folder: int8's scales are found on up to 512 of its images, and up
            to 64 are read with both; drawn ones if None.

    Raises:
        FileExistsError: `out` is a folder with something in it.
        HccrError: no run, a format or `quantize` that doesn't exist, a backend other than
            TensorFlow, or answers too far from Keras's; nothing is written then.
    """
    out = Path(out)
    format = _checked(out, format, quantize)
    if keras.backend.backend() != "tensorflow":
        raise HccrError(
            "Networks are converted by TensorFlow, whatever they were trained on: set "
            "KERAS_BACKEND=tensorflow before Python starts (`hccr export` does it itself)."
        )
    module = import_module(f"hccr_tf.export.{format}")
    predictor = Predictor(workdir)
    images = predictor.preprocessing.apply_views(_images(data))
    compared = images[:: -(-len(images) // _NUM_COMPARED)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        written = Path(folder) / f"network{FORMATS[format].suffix}"
        network = keras.Model(predictor.model.input, {OUTPUT: predictor.model.output[MAIN_OUTPUT]})
        _unroll(network)
        facts = {
            "characters": predictor.charset.text,
            "preprocessing": predictor.preprocessing.to_dict(),
            "temperature": read_temperature(predictor.workdir.path),
            "recipe": predictor.recipe.name,
            "weights_sha256": read_checksum(predictor.workdir.prediction_weights),
        }
        logits = predictor.logits(compared)
        kinds = [quantize, *_INSTEAD.get((format, quantize), ())]
        for kind in kinds:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")  # of the converters' own calls of NumPy and others
                module.write(network, written, facts, kind, images)
            try:
                found = _compared(logits, module.read(written)(compared), _BOUNDS[quantize])
                break
            except HccrError:
                if kind == kinds[-1]:
                    raise
                logger.info(
                    "In integers it reads otherwise than with Keras: it computes in floats."
                )
        if written.is_dir():
            replace_directory(written, out)
        else:
            with atomic_write(out) as temporary:
                written.replace(temporary)
    files = [out] if out.is_file() else [file for file in out.rglob("*") if file.is_file()]
    difference, equal = found
    logger.info(
        "Of %d %s %.0f %% read as with Keras; logits differ by up to %.2g, as far as is allowed.",
        len(compared),
        "drawn images" if data is None else f"images of {getattr(data, 'path', data)}",
        100 * equal,
        difference,
    )
    return Export(out, sum(file.stat().st_size for file in files), *found, len(compared))


def _checked(out: Path, format: str | None, quantize: str | None) -> str:
    """Returns the format; raises where anything that was asked for can't be."""
    if format is None:
        suffixes = {known.suffix: name for name, known in FORMATS.items()}
        format = suffixes.get(out.suffix)
        if format is None:
            raise HccrError(
                f"{out}: no format's name ends so; {', '.join(filter(None, suffixes))} do, and a "
                "name without a dot is a SavedModel's. Or name it: --format."
            )
    if format not in FORMATS:
        raise HccrError(f"format is {', '.join(FORMATS)}, not {format!r}.")
    if quantize not in (None, *FORMATS[format].quantize):
        if not FORMATS[format].quantize:
            raise HccrError(f"A {format} has its weights as they are: no quantize.")
        raise HccrError(f"quantize is {' or '.join(FORMATS[format].quantize)}, not {quantize!r}.")
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out} is a folder with something in it; choose another --out.")
    return format


def _unroll(network: keras.Model) -> None:
    """Has recurrent layers write out their steps: no engine but TensorFlow needs its loop then."""
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.RNN):
            layer.unroll = True


def _images(data) -> Sequence[np.ndarray]:
    """Images of a dataset, or drawn ones."""
    if data is None:
        characters = [centre_lines(lines) for lines in load_strokes().values()] * 4
        counts = np.array([len(lines) for lines in characters])
        seeds = [(2013, i) for i in range(len(characters))]
        return draw(np.concatenate(characters), counts, seeds, HandwritingStyle())
    dataset = open_dataset(data)
    indices = dataset.indices("all")
    places = np.linspace(0, len(indices) - 1, min(len(indices), _NUM_IMAGES)).astype(int)
    return dataset.images(indices[places])


def _compared(ours: np.ndarray, theirs: np.ndarray, bound: float) -> tuple[float, float]:
    """The largest difference, and the share of equal answers."""
    difference = abs(ours - theirs)
    mean = float(np.sqrt((difference**2).mean()))
    if not mean <= bound * max(float(ours.std()), 1e-6):
        raise HccrError(
            f"The exported network's logits differ from Keras's by {mean:.3g} (root mean square), "
            f"which is more than {bound:g} of how much they vary; nothing was written. Compare on "
            "images like those that the run reads (--data STORE), or quantize less: --quantize "
            "float16, or none."
        )
    return float(difference.max()), float((ours.argmax(1) == theirs.argmax(1)).mean())
