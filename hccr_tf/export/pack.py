"""Make a run small enough to pass on, or to come with the package."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path

import numpy as np

from hccr_tf.inference.predictor import Predictor
from hccr_tf.inference.recognizer import CALIBRATION
from hccr_tf.models.weights import SCALE, read_checksum, save_weights, values
from hccr_tf.pretrained import find_run
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.files import replace_directory, write_json

_KEPT = ("recipe.json", "charset.json", "preprocessing.json", "environment.json", "history.csv")
_MORE = (CALIBRATION, "reliability.csv", "reliability.png")


def pack(workdir: str | Path, out: str | Path) -> int:
    """Copies what prediction needs of a run, its kernels in eight bits.

    Args:
        workdir: a trained run.
        out: the new folder, a run itself; state "packed".

    Returns:
        Its size in bytes.

    Raises:
        FileExistsError: there's something at `out`.
        HccrError: no run, or a run without weights.
    """
    source, out = Workdir(find_run(workdir)), Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise FileExistsError(f"{out} exists already; choose another --out.")
    predictor = Predictor(source.path)
    arrays = {}
    for variable in predictor.model.weights:
        array = values(variable)
        if array.ndim > 1:  # what belongs to single channels is little, and less even-sized
            array, arrays[variable.path + SCALE] = quantized(array, -1)
        arrays[variable.path] = array
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = Workdir(Path(folder) / "run")
        made.path.mkdir()
        for name in (*_KEPT, *_MORE):
            if (source.path / name).exists():
                shutil.copyfile(source.path / name, made.path / name)
        packed_from = read_checksum(source.prediction_weights)
        save_weights(made.prediction_weights, {"model": arrays}, {"packed_from": packed_from})
        run = source.read_run()
        # Folders of this machine mean nothing elsewhere.
        run.pop("store", None)
        if run.get("init_from"):
            run["init_from"] = Path(run["init_from"]).name
        words = shlex.split(run.get("command", ""))
        run["command"] = shlex.join(Path(w).name if "/" in w else w for w in words)
        run |= {
            "state": "packed",
            "packed_from": packed_from,
            "weights_sha256": read_checksum(made.prediction_weights),
        }
        write_json(made.path / "run.json", run)
        replace_directory(made.path, out)
    return sum(file.stat().st_size for file in out.iterdir())


def quantized(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns int8 values and their float32 scales, one for each place along an axis."""
    others = tuple(set(range(array.ndim)) - {axis % array.ndim})
    largest = abs(array).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(array / scale).astype(np.int8), scale
