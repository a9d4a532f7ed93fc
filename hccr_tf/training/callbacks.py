"""What happens between steps and epochs: saving, stopping, showing."""

import contextlib
import math
import sys
import time

import keras
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hccr_tf.files import atomic_write
from hccr_tf.recipes import Recipe
from hccr_tf.weights import save_weights
from hccr_tf.workdir import Workdir

MONITOR = "val_main_output_accuracy"


class DivergenceError(RuntimeError):
    """The loss is no longer a finite number."""


def best_epoch(history: list[dict]) -> int | None:
    """Index of the first row with the highest monitored value; None without rows."""
    if not history:
        return None
    return max(range(len(history)), key=lambda i: (history[i][MONITOR], -i))


def is_finished(history: list[dict], recipe: Recipe) -> bool:
    """Whether the recipe's epochs are done or its patience is at its end.

    A pure function of the history, so a run that was interrupted stops at the same
    epoch as one that wasn't.
    """
    if not history:
        return False
    flat = len(history) - 1 - best_epoch(history)
    return len(history) >= recipe.epochs or flat >= recipe.patience


def logs_by_output(logs: dict | None, output_names) -> dict[str, float]:
    """Keras's logs with every metric under its output's name.

    Of a network with one output Keras logs `accuracy` and no loss of its own where one
    with several has `main_output_accuracy` and `main_output_loss`.
    """
    logs = {name: float(value) for name, value in (logs or {}).items()}
    if len(output_names) > 1:
        return logs
    (output,) = output_names
    named = {}
    for key, value in logs.items():
        prefix, name = ("val_", key[4:]) if key.startswith("val_") else ("", key)
        if name == "loss":
            named[key] = value
        if not name.startswith(f"{output}_"):
            name = f"{output}_{name}"
        named[prefix + name] = value
    return named


def _number(variable) -> float:
    # By way of a tensor: under a distribution strategy a variable has one value a device.
    return float(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable)))


class SaveRun(keras.callbacks.Callback):
    """Writes weights and history after each epoch, and stops when the recipe says so.

    Args:
        workdir: where to.
        recipe: gives epochs and patience.
        prediction_names: paths of the variables that prediction needs.
        history: rows of the epochs done; added to in place.
    """

    def __init__(
        self, workdir: Workdir, recipe: Recipe, prediction_names: set[str], history: list[dict]
    ):
        super().__init__()
        self.workdir = workdir
        self.recipe = recipe
        self.prediction_names = prediction_names
        self.history = history
        self._start = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise DivergenceError(
                f"The loss is {logs['loss']} at step {batch + 1} of epoch "
                f"{len(self.history) + 1}. The last good weights are in "
                f"{self.workdir.last_weights if self.history else 'no file yet'}; lower "
                "--learning-rate, or use --mixed-precision bfloat16 in place of float16."
            )

    def on_epoch_end(self, epoch, logs=None):
        # JAX keeps the weights in the step's state; Keras writes them back only on request.
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        row = {
            "epoch": epoch + 1,
            "step": int(_number(self.model.optimizer.iterations)),
            "seconds": round(time.monotonic() - self._start, 2),
            "learning_rate": _number(self.model.optimizer.learning_rate),
            **dict(sorted(logs_by_output(logs, list(self.model.output)).items())),
        }
        self.history.append(row)
        attributes = {"epoch": epoch + 1, "history": self.history}
        variables = self.model.variables
        if best_epoch(self.history) == len(self.history) - 1:
            save_weights(self.workdir.best_weights, {"model": variables}, attributes)
            wanted = [v for v in variables if v.path in self.prediction_names]
            save_weights(
                self.workdir.prediction_weights, {"model": wanted}, {"epoch": epoch + 1}
            )
        # Last, because it's what a continuation reads: if this is missing the epoch is
        # simply done again.
        save_weights(
            self.workdir.last_weights,
            {"model": variables, "optimizer": self.model.optimizer.variables},
            attributes,
        )
        write_history(self.workdir, self.history)
        best = self.history[best_epoch(self.history)]
        finished = is_finished(self.history, self.recipe)
        self.workdir.update_run(
            state="finished" if finished else "running",
            epochs_done=len(self.history),
            best_epoch=best["epoch"],
            best_val_accuracy=best[MONITOR],
            train_seconds=round(sum(r["seconds"] for r in self.history), 1),
        )
        if finished:
            self.model.stop_training = True


def write_history(workdir: Workdir, history: list[dict]) -> None:
    """Writes `history.csv` atomically."""
    with atomic_write(workdir.history_path) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)


class ShowProgress(keras.callbacks.Callback):
    """A bar in a terminal and a line an epoch everywhere.

    Keras's own bar would print the loss and accuracy of every head at every step.
    """

    def __init__(self, epochs: int, steps: int, batch_size: int):
        super().__init__()
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self._stack = contextlib.ExitStack()

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.monotonic()
        self._seen = 0
        self._stack = contextlib.ExitStack()
        self._progress = self._stack.enter_context(
            Progress(
                TextColumn(f"epoch {epoch + 1}/{self.epochs}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[state]}"),
                console=Console(file=sys.stderr),
                disable=not sys.stderr.isatty(),
                transient=True,
            )
        )
        self._task = self._progress.add_task("", total=self.steps, state="")

    def on_train_batch_end(self, batch, logs=None):
        logs = logs_by_output(logs, list(self.model.output))
        rate = (batch + 1) * self.batch_size / (time.monotonic() - self._start)
        accuracy = logs.get("main_output_accuracy", 0.0)
        self._progress.update(
            self._task,
            completed=batch + 1,
            state=f"loss {logs.get('loss', 0):.4f}  accuracy {100 * accuracy:.2f} %  "
            f"{rate:.0f} images/s",
        )

    def on_epoch_end(self, epoch, logs=None):
        self._stack.close()
        logs = logs_by_output(logs, list(self.model.output))
        print(
            f"epoch {epoch + 1}/{self.epochs}: loss {logs.get('loss', float('nan')):.4f}, "
            f"accuracy {100 * logs.get('main_output_accuracy', 0):.2f} %, "
            f"validation {100 * logs.get(MONITOR, 0):.2f} %, "
            f"{time.monotonic() - self._start:.0f} s",
            flush=True,
        )

    def close(self):
        """Ends the bar, also when training ended inside an epoch."""
        self._stack.close()


class WriteEvents(keras.callbacks.Callback):
    """TensorBoard events of every epoch, without TensorFlow.

    `keras.callbacks.TensorBoard` needs TensorFlow on every backend.
    """

    def __init__(self, workdir: Workdir):
        super().__init__()
        from tensorboard.summary import Writer

        self._writer = Writer(str(workdir.tensorboard))

    def on_epoch_end(self, epoch, logs=None):
        step = int(_number(self.model.optimizer.iterations))
        rate = _number(self.model.optimizer.learning_rate)
        logs = logs_by_output(logs, list(self.model.output))
        for name, value in {**logs, "learning_rate": rate}.items():
            group, _, rest = name.partition("val_")
            tag = f"validation/{rest}" if not group and rest else f"train/{name}"
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()
