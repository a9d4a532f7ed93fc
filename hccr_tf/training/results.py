"""What a run's epochs leave: the best weights, the history, the run's state."""

import keras
import pandas as pd

from hccr_tf.models.weights import WeightsError, read_attributes, save_weights
from hccr_tf.recipe import Recipe
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.stages import MONITOR, best_epoch, is_finished
from hccr_tf.utils.files import atomic_write


class Results:
    """Writes the results of a run into its folder, each file atomically.

    Args:
        workdir: the folder.
        recipe: says when the run is finished.
        prediction_names: paths of the variables that prediction needs.
    """

    def __init__(self, workdir: Workdir, recipe: Recipe, prediction_names: set[str]):
        self._workdir, self._recipe = workdir, recipe
        self._prediction_names = prediction_names

    def has_best(self, history: list[dict]) -> bool:
        """Returns whether the weights of the last epoch are there, if it's the best."""
        if best_epoch(history) != len(history) - 1:
            return True
        try:
            written = read_attributes(self._workdir.prediction_weights)["epoch"]
        except WeightsError:
            return False
        return written == len(history)

    def save_best(self, model: keras.Model, history: list[dict]) -> None:
        """Writes the weights of the last epoch, which is the best, for training and prediction."""
        attributes = {"epoch": len(history), "history": history}
        save_weights(self._workdir.best_weights, {"model": model.variables}, attributes)
        needed = [v for v in model.variables if v.path in self._prediction_names]
        # Last: its epoch says that both are written.
        attributes = {"epoch": len(history)}
        save_weights(self._workdir.prediction_weights, {"model": needed}, attributes)

    def write_progress(self, history: list[dict], seconds: list[float]) -> bool:
        """Writes `history.csv`, and the state into `run.json`.

        Args:
            history: a row an epoch, at least one.
            seconds: that each epoch took.

        Returns:
            Whether the run is finished.
        """
        with atomic_write(self._workdir.history_path) as temporary:
            pd.DataFrame(history).to_csv(temporary, index=False)
        best = history[best_epoch(history)]
        finished = is_finished(history, self._recipe)
        self._workdir.update_run(
            state="finished" if finished else "running",
            epochs_done=len(history),
            best_epoch=best["epoch"],
            best_val_accuracy=best[MONITOR],
            train_seconds=round(sum(seconds), 1),
        )
        return finished
