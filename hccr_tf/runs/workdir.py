"""The folder that holds everything a run made.

recipe.json            the recipe, overrides applied
charset.json           characters in class order
preprocessing.json     how images become input
run.json               data hash, state, best result, command
environment.json       versions, hardware, backend
history.csv            a row an epoch; holds no times, so that runs of one seed have equal ones
diverged.json          where the loss became infinite or no number, and on which samples
lock                   held by the process that trains
curves.png             loss and accuracy of every head
best.safetensors       training weights of the best epoch
checkpoints/           the newest two: weights, optimiser, metrics, place in the data
prediction.safetensors the best epoch's weights on the path to the main output only
tensorboard/           events
"""

import contextlib
import os
import platform
import shlex
import sys
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import keras
import pandas as pd

from hccr_tf.charset import Charset
from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.recipe import Recipe
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import read_json, write_json
from hccr_tf.utils.schema import Count, Share, read_table

_PACKAGES = (
    "hccr_tf",
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "numpy",
    "h5py",
    "safetensors",
    "opencv-python-headless",
)


HISTORY = ("epoch", "val_main_output_accuracy", "val_main_output_loss")
_REMEDY = "take an intact copy of the run, or train it anew in another --workdir"


_RUN = {
    "state": Literal["begun", "running", "finished", "diverged", "imported", "packed"],
    "seed": Count,
    **dict.fromkeys(("data_hash", "charset_sha256", "command"), str),
    **dict.fromkeys(("store?", "init_from?", "init_recipe?", "init_data_hash?"), str),
    **dict.fromkeys(("epochs_done?", "best_epoch?"), Count),
    "best_val_accuracy?": Share,
    **dict.fromkeys(("train_seconds?", "images_per_second?", "input_wait?"), float),
}
_ENVIRONMENT = {
    **dict.fromkeys(("python", "platform", "backend", "cpu"), str),
    "packages": dict[str, str],
    "devices": list[str],
    "cpu_count": int | None,
}


def _path(name: str) -> property:
    return property(lambda workdir: workdir.path / name, doc=f"Returns the path of {name}.")


@dataclass(frozen=True)
class Workdir:
    """Paths and small files of a run's folder, `path`."""

    path: Path

    recipe_path = _path("recipe.json")
    checkpoints = _path("checkpoints")
    lock_path = _path("lock")
    history_path = _path("history.csv")
    curves_path = _path("curves.png")
    tensorboard = _path("tensorboard")
    best_weights = _path("best.safetensors")
    prediction_weights = _path("prediction.safetensors")

    def exists(self) -> bool:
        """Returns whether a run was begun here."""
        return self.recipe_path.exists()

    @cached_property
    def recipe(self) -> Recipe:
        """Reads the run's recipe; HccrError where there's no run."""
        return Recipe.from_dict(self._read("recipe.json"), self.recipe_path)

    @cached_property
    def charset(self) -> Charset:
        """Reads the run's characters in class order."""
        self._read("recipe.json")
        return Charset.load(self.path / "charset.json")

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Reads how the run's images were prepared."""
        name = "preprocessing.json"
        return Preprocessing.from_dict(self._read(name), self.path / name)

    def read_run(self) -> dict[str, Any]:
        """Reads `run.json`."""
        return self._read("run.json", _RUN)

    def read_environment(self) -> dict[str, Any]:
        """Reads `environment.json`; see `environment`."""
        return self._read("environment.json", _ENVIRONMENT)

    @property
    def hardware(self) -> str:
        """Names the machine it was trained on, for tables."""
        machine = self.read_environment()
        return f"{machine['cpu']}, {machine['cpu_count']} cores, {machine['backend']}"

    def read_history(self) -> list[dict]:
        """Reads the rows of `history.csv`; none before the first epoch is done."""
        if not self.history_path.exists():
            return []
        return self.read_curves().to_dict("records")

    def read_curves(self) -> pd.DataFrame:
        """Reads `history.csv`, of at least one epoch, as a table of numbers."""
        table = read_table(self.history_path, HISTORY, _REMEDY)
        if not len(table) or not all(map(pd.api.types.is_numeric_dtype, table.dtypes)):
            raise HccrError(f"{self.history_path} holds no rows, or no numbers; {_REMEDY}")
        return table

    def update_run(self, **values) -> None:
        """Changes some of `run.json`, atomically."""
        write_json(self.path / "run.json", {**self.read_run(), **values})

    def begin(
        self, recipe: Recipe, charset: Charset, data_hash: str, store: Path, **origin: str
    ) -> None:
        """Writes everything that is fixed for the whole run; the recipe last.

        `exists` looks for the recipe, so a run killed in here is simply begun anew. `store` is
        the dataset's folder; `origin` says which run the weights come from, if any.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        charset.save(self.path / "charset.json")
        write_json(self.path / "preprocessing.json", recipe.preprocessing.to_dict())
        run = {
            "state": "begun",
            "data_hash": data_hash,
            "store": str(store),
            "charset_sha256": charset.sha256,
            "seed": recipe.seed,
            "command": command_line(),
        }
        write_json(self.path / "run.json", {**run, **origin})
        write_json(self.path / "environment.json", environment())
        write_json(self.recipe_path, recipe.to_dict())

    def replace_recipe(self, recipe: Recipe) -> None:
        """Writes the recipe of a run that goes on with another length, patience or `tta`."""
        write_json(self.path / "preprocessing.json", recipe.preprocessing.to_dict())
        write_json(self.recipe_path, recipe.to_dict())
        for name in ("recipe", "preprocessing"):
            self.__dict__.pop(name, None)  # what `cached_property` kept

    def _read(self, name: str, kind: Any = Any) -> Any:
        if not self.exists():
            raise HccrError(
                f"{self.path} holds no run (no recipe.json). Name the --workdir of a training run."
            )
        return read_json(self.path / name, kind, _REMEDY)


def command_line() -> str:
    """Returns this process's command, without the interpreter and its paths."""
    name = Path(sys.argv[0]).name
    return shlex.join(["hccr" if name == "__main__.py" else name, *sys.argv[1:]])


def environment() -> dict[str, Any]:
    """Returns versions, backend and hardware of this process."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "backend": keras.backend.backend(),
        "devices": keras.distribution.list_devices(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
