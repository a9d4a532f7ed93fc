"""Which framework Keras runs on, and its start without noise."""

import os
import re
import sys
import tempfile
from importlib.util import find_spec

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
