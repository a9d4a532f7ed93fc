"""Checkpoints: all that a run needs to go on as if it had never stopped.

A checkpoint holds the weights, the optimiser, the random state of dropout, the metrics of the
running epoch, the history of those before, and the position in the data. The order of the data and
its augmentation need none: they are functions of (seed, epoch, step). Stopping early and the
choice of the best epoch need none either: they are functions of the history.
"""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hccr_tf.models.weights import (
    WeightsError,
    load_weights,
    read_attributes,
    read_names,
    save_weights,
    values,
)
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.schema import Count, check

logger = logging.getLogger(__name__)

KEPT = 2
_KEPT = {
    **dict.fromkeys(("epoch", "step"), Count),
    "history": list[dict[str, Any]],
    "seconds?": list[float],
    "spent?": float,
}
_COST = 0.02  # Largest share of the time that saving may take, whatever the interval.


@dataclass(frozen=True)
class Position:
    """Where a run stands: epochs done, and steps done in the epoch that runs."""

    epoch: int = 0
    step: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, step {self.step}" if self.step else f"epoch {self.epoch}"


@dataclass(frozen=True)
class CheckpointInterval:
    """How often to save within an epoch: by minutes, by steps, or by both; None for not by it."""

    minutes: float | None = 10.0
    steps: int | None = None

    def __post_init__(self):
        if self.minutes is not None and self.minutes <= 0:
            raise HccrError(f"checkpoint minutes are above 0, not {self.minutes}.")
        if self.steps is not None and self.steps < 1:
            raise HccrError(f"checkpoint steps are at least 1, not {self.steps}.")


class Checkpoints:
    """The checkpoints of a run, in a folder that is made when the first is saved."""

    def __init__(self, folder: Path, interval: CheckpointInterval | None = None):
        self.folder = folder
        self.interval = interval or CheckpointInterval()
        self.newest: Any = None  # path of the one saved or restored last
        self._steps, self._seconds, self._saved = 0, 0.0, time.monotonic()

    def paths(self) -> list[Path]:
        """Returns the files there are, newest first."""
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def due(self, steps: int) -> bool:
        """Returns whether to save after so many steps since the run began.

        Saving that takes long happens less often than asked for, at an interval of time.
        """
        if self.interval.steps is not None and steps - self._steps >= self.interval.steps:
            return True
        if self.interval.minutes is None:
            return False
        passed = time.monotonic() - self._saved
        return passed >= max(60 * self.interval.minutes, self._seconds / _COST)

    def save(
        self, model: keras.Model, position: Position, steps: int, history: list[dict], **attributes
    ) -> Path:
        """Writes a checkpoint, deletes all but the newest two, and returns its path.

        The model is compiled, and on JAX its state is written back to its variables. Checkpoints
        are ordered by the `steps` done since the run began; `attributes` are other plain values.

        Raises:
            FloatingPointError: the weights aren't finite; nothing is written.
            OSError: the disk is full; earlier checkpoints are intact.
        """
        begin = time.monotonic()
        for variable in model.trainable_variables:
            # By their sum: of many finite numbers it's finite too, and quicker to look at.
            if not np.isfinite(values(variable).sum(dtype=np.float64)):
                raise FloatingPointError(variable.path)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{steps:09d}.safetensors"
        groups = {"model": model.variables, "optimizer": model.optimizer.variables}
        stand = {**asdict(position), "history": history, **attributes}
        save_weights(path, {**groups, "metrics": _metrics(model)}, stand)
        # Left by a run that went on from an older one of them, newer ones are damaged.
        for old in [p for p in self.paths() if p.name > path.name] + self.paths()[KEPT:]:
            old.unlink(missing_ok=True)
        for partial in self.folder.glob(".step-*.partial-*"):
            partial.unlink(missing_ok=True)
        self._note(path)
        self._seconds = self._saved - begin
        return path

    def restore(self, model: keras.Model) -> dict[str, Any] | None:
        """Fills a model with the newest intact checkpoint's weights, and returns its plain values.

        None where there's no checkpoint.

        Raises:
            WeightsError: there are checkpoints, and none is intact.
        """
        problems = []
        for path in self.paths():
            try:
                load_weights(path, "model", model.variables)
                kept = read_attributes(path)
                check(kept, _KEPT, path)
            except HccrError as error:
                problems.append(str(error))
                logger.warning("Passed over a checkpoint: %s", error)
                continue
            self._note(path)
            return kept
        if problems:
            raise WeightsError(
                f"No checkpoint in {self.folder} can be used: {'; '.join(problems)}. Take "
                "another --workdir; --init-from starts from this run's best weights."
            )
        return None

    # What follows is read from the restored checkpoint, which was checked as a whole.

    def restore_optimizer(self, model: keras.Model) -> None:
        """Fills the optimiser of a model that is compiled as the one which was saved."""
        load_weights(self.newest, "optimizer", model.optimizer.variables, verify=False)

    def restore_metrics(self, model: keras.Model) -> None:
        """Fills the metrics of the running epoch; at its begin, when Keras has reset them.

        Raises:
            WeightsError: the model has other metrics, or hasn't made them yet.
        """
        stored, metrics = read_names(self.newest, "metrics"), _metrics(model)
        if stored != sorted(metrics):
            raise WeightsError(
                f"{self.newest} holds {len(stored)} metric values and the model {len(metrics)}."
            )
        load_weights(self.newest, "metrics", metrics, verify=False)

    def _note(self, path: Path) -> None:
        self.newest, self._saved = path, time.monotonic()
        self._steps = int(path.stem.removeprefix("step-"))


def _metrics(model: keras.Model) -> dict[str, keras.Variable]:
    # Metrics of several outputs have variables of one path: they're told apart by their position.
    return {f"{i:04d}": variable for i, variable in enumerate(model.metrics_variables)}
