"""A run exported to ONNX, read by ONNX Runtime: no Keras, and ready in a moment."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime

from hccr_tf.charset import Charset
from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.utils.errors import HccrError

METADATA = "hccr_tf"  # key of the facts in the file: characters, preprocessing, temperature
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
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            facts = json.loads(self._session.get_modelmeta().custom_metadata_map[METADATA])
            self.charset = Charset.from_text(facts["characters"])
            self.preprocessing = Preprocessing.from_dict(facts["preprocessing"])
            self.temperature = float(facts["temperature"])
        except Exception as error:  # the runtime's own errors have no common base
            raise HccrError(
                f"{path} is damaged, or not written by `hccr export`: {error}"
            ) from error

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (B, C) logits of prepared images uint8 (B, H, W, 1)."""
        return self._session.run([OUTPUT], {INPUT: images})[0]
