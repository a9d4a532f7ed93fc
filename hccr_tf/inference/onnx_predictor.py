"""A run exported to ONNX, read by ONNX Runtime: no Keras, and ready in a moment."""

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime

from hccr_tf.charset import Charset
from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.schema import between, decoding, parse_json

METADATA = "hccr_tf"  # key of the facts in the file: characters, preprocessing, temperature
_FACTS = {
    "characters": str,
    "preprocessing": dict[str, Any],
    "temperature": Annotated[float, between(1e-3, 1e3)],
}
INPUT, OUTPUT = "image", "logits"


class OnnxPredictor:
    """An ONNX file of `hccr export`, ready to read images; as `Predictor` is for a run's folder.

    Args:
        path: the file. OMP_NUM_THREADS threads compute, or as many as there are cores.

    Attributes:
        charset: characters in class order.
        preprocessing: how images must be prepared.
        temperature: what logits are divided by.

    Raises:
        HccrError: no such file, or one that `hccr export` didn't write.
    """

    compiles = False  # batches of every size are as good

    def __init__(self, path: str | Path):
        if not Path(path).is_file():
            raise HccrError(f"There is no file {path}; `hccr export RUN --out {path}` writes one.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
        options.log_severity_level = 4
        # Waiting threads sleep: one image is read faster than others would be woken.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        remedy = f"write it again: `hccr export RUN --out {path}`"
        with decoding(path, remedy):
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            text = self._session.get_modelmeta().custom_metadata_map.get(METADATA, "null")
        facts = parse_json(text, path, _FACTS, remedy)
        self.charset = Charset.from_text(facts["characters"])
        self.preprocessing = Preprocessing.from_dict(facts["preprocessing"], path)
        self.temperature = facts["temperature"]
        side, classes = self.preprocessing.image_size, len(self.charset)
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        shapes = {end.name: tuple(end.shape[1:]) for end in ends}
        if shapes != {INPUT: (side, side, 1), OUTPUT: (classes,)}:
            raise HccrError(
                f"{path} has a network of {shapes}, which doesn't fit its {side}×{side} pixels and "
                f"{classes} characters; {remedy}"
            )

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (B, C) logits of prepared images uint8 (B, H, W, 1)."""
        return self._session.run([OUTPUT], {INPUT: images})[0]
