"""What happens between steps and epochs: saving, stopping, showing."""

import contextlib
import math
import os
import platform
import sys
import time

import keras
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hccr_tf.data.loading.loader import Loader
from hccr_tf.images.contact_sheet import encode_png, sheet_image
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.models.weights import WeightsError, read_attributes, save_weights
from hccr_tf.recipe import Recipe
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.checkpoints import Checkpoints, Place, Restored
from hccr_tf.training.keras_data import InputWait
from hccr_tf.training.signals import Interrupted, StopRequest
from hccr_tf.training.stages import MONITOR, best_epoch, is_finished
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write, write_json

_VALIDATION_SECONDS = 10


class DivergenceError(HccrError):
    """The loss or the weights are no longer finite numbers."""


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
    """Writes checkpoints, weights and history, and stops when the recipe or a signal says so.

    Args:
        workdir: where to.
        recipe: gives epochs and patience.
        reader: the training batches, for the place in them.
        prediction_names: paths of the variables that prediction needs.
        checkpoints: where checkpoints go, and how often.
        stop: tells of signals.
        restored: the checkpoint that the run goes on from; None for a new one.
    """

    def __init__(
        self,
        workdir: Workdir,
        recipe: Recipe,
        reader: Loader,
        prediction_names: set[str],
        checkpoints: Checkpoints,
        stop: StopRequest,
        restored: Restored | None = None,
    ):
        super().__init__()
        self.workdir = workdir
        self.recipe = recipe
        self.reader = reader
        self.prediction_names = prediction_names
        self.checkpoints = checkpoints
        self.stop = stop
        self.history: list[dict] = list(restored.history) if restored else []
        self._restored = restored
        self._place = restored.place if restored else Place()
        # Times are no part of the history, which repeats to the bit.
        self._seconds: list[float] = list(restored.attributes["seconds"]) if restored else []
        self._spent = restored.attributes["spent"] if restored else 0.0
        self._since_saved = 0
        self._saved = str(restored.path) if restored else None

    def finish_epoch_files(self, model: keras.Model) -> None:
        """Writes what the last epoch leaves beside its checkpoint, if a kill prevented that.

        Args:
            model: as restored from that checkpoint.
        """
        if not self.history:
            return
        write_history(self.workdir, self.history)
        if not self._place.step and best_epoch(self.history) == len(self.history) - 1:
            try:
                written = read_attributes(self.workdir.prediction_weights)["epoch"]
            except WeightsError:
                written = None
            if written != len(self.history):
                self._save_best(model)
        self._update_run()

    def on_epoch_begin(self, epoch, logs=None):
        self._begin = time.monotonic()
        if self._place.epoch != epoch:
            self._place, self._spent = Place(epoch), 0.0
        elif self._place.step and self._restored is not None:
            self._restored.restore_metrics(self.model)
        self._restored = None

    def on_train_batch_end(self, batch, logs=None):
        epoch, step = self._place.epoch, self._place.step + 1
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self._diverged(f"The loss is {logs['loss']}", step)
        self._place = Place(epoch, step)
        self._since_saved += 1
        # Not at the last step: validation and the epoch's own checkpoint follow.
        if step < self.reader.steps_per_epoch and (
            self.stop.number or self.checkpoints.due(self._since_saved)
        ):
            self._save()
            self._leave_if_asked()

    def on_test_batch_end(self, batch, logs=None):
        # A validation that ends soon ends with a checkpoint. One that takes longer than whoever
        # sent the signal may wait is left, and what follows the last checkpoint is done again.
        if time.monotonic() - self.stop.since > _VALIDATION_SECONDS:
            self._leave_if_asked()

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            "step": (epoch + 1) * self.reader.steps_per_epoch,
            "learning_rate": _number(self.model.optimizer.learning_rate),
            **dict(sorted(logs_by_output(logs, list(self.model.output)).items())),
        }
        self.history.append(row)
        self._seconds.append(round(self._spent + time.monotonic() - self._begin, 2))
        self._place, self._spent = Place(epoch + 1), 0.0
        # First, because a continuation reads it, and from it writes what is missing of the rest.
        self._save()
        if best_epoch(self.history) == len(self.history) - 1:
            self._save_best(self.model)
        write_history(self.workdir, self.history)
        if not self._update_run():
            self._leave_if_asked()

    def _update_run(self) -> bool:
        """Writes the state into `run.json`; whether the run is finished."""
        best = self.history[best_epoch(self.history)]
        finished = is_finished(self.history, self.recipe)
        self.workdir.update_run(
            state="finished" if finished else "running",
            epochs_done=len(self.history),
            best_epoch=best["epoch"],
            best_val_accuracy=best[MONITOR],
            train_seconds=round(sum(self._seconds), 1),
        )
        return finished

    def _save(self) -> None:
        # JAX keeps the weights in the step's state; Keras writes them back only on request.
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        spent = self._spent + (time.monotonic() - self._begin if self._place.step else 0.0)
        try:
            place = self._place
            steps = place.epoch * self.reader.steps_per_epoch + place.step
            path = self.checkpoints.save(
                self.model, place, steps, self.history, seconds=self._seconds, spent=spent
            )
        except FloatingPointError as error:
            self._diverged(f"The weights {error} aren't finite", self._place.step)
        self._saved = str(path)
        self._since_saved = 0

    def _save_best(self, model: keras.Model) -> None:
        attributes = {"epoch": len(self.history), "history": self.history}
        variables = model.variables
        save_weights(self.workdir.best_weights, {"model": variables}, attributes)
        wanted = [v for v in variables if v.path in self.prediction_names]
        # Last: its epoch says that both are written.
        save_weights(
            self.workdir.prediction_weights, {"model": wanted}, {"epoch": len(self.history)}
        )

    def _leave_if_asked(self) -> None:
        if self.stop.number is not None:
            where = f"saved in {self._saved}" if self._saved else "before anything was saved"
            raise Interrupted(
                f"Stopped in epoch {self._place.epoch + 1} after {self._place.step} of its "
                f"{self.reader.steps_per_epoch} steps, {where}. The same command goes on there.",
                self.stop.number,
            )

    def _diverged(self, what: str, step: int) -> None:
        epoch = self._place.epoch
        # A checkpoint at the end of an epoch looks back on its last step.
        batch = self.reader.batch(
            *((epoch, step - 1) if step else (epoch - 1, self.reader.steps_per_epoch - 1))
        )
        ids = self.reader.store.sample_ids(batch.indices)
        report = self.workdir.path / "diverged.json"
        write_json(report, {"what": what, "epoch": epoch + 1, "step": step, "sample_ids": ids})
        self.workdir.update_run(state="diverged")
        shown = ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
        raise DivergenceError(
            f"{what} at step {step} of epoch {epoch + 1}, with the batch {shown} (all in "
            f"{report}). The last good checkpoint is {self._saved or 'none yet'}; lower "
            "--learning-rate in a new --workdir (--init-from takes this run's best weights), or "
            "use --mixed-precision bfloat16 in place of float16."
        )


def write_history(workdir: Workdir, history: list[dict]) -> None:
    """Writes `history.csv` atomically."""
    with atomic_write(workdir.history_path) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)


class ShowProgress(keras.callbacks.Callback):
    """A bar in a terminal and a line an epoch everywhere.

    Keras's own bar would print the loss and accuracy of every head at every step.

    Args:
        epochs: of the recipe.
        reader: the training batches.
        place: where the run begins.
        wait: time spent waiting for input.
    """

    def __init__(self, epochs: int, reader: Loader, place: Place, wait: InputWait):
        super().__init__()
        self.epochs, self.reader, self.wait = epochs, reader, wait
        self._first = place
        self._stack = contextlib.ExitStack()

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.monotonic()
        self._waited = self.wait.seconds
        self._done = self._offset = self._first.step if epoch == self._first.epoch else 0
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
        self._task = self._progress.add_task(
            "", total=self.reader.steps_per_epoch, completed=self._done, state=""
        )

    def on_train_batch_end(self, batch, logs=None):
        self._done += 1
        if self._progress.disable:
            return
        logs = logs_by_output(logs, list(self.model.output))
        accuracy = logs.get("main_output_accuracy", 0.0)
        rate, wait = self._rates()
        self._progress.update(
            self._task,
            completed=self._done,
            state=f"loss {logs.get('loss', 0):.4f}  accuracy {100 * accuracy:.2f} %  "
            f"{rate:.0f} images/s{wait}",
        )

    def on_test_begin(self, logs=None):
        self._rate_of_epoch = self._rates()
        self._progress.update(self._task, state="validating")

    def _rates(self) -> tuple[float, str]:
        """Images a second, and the share of the time spent waiting for them in words."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = (self._done - self._offset) * self.reader.batch_size / seconds
        if not self.wait.measured:
            return rate, ""
        share = min(1.0, (self.wait.seconds - self._waited) / seconds)
        return rate, f", input wait {100 * share:.0f} %"

    def on_epoch_end(self, epoch, logs=None):
        self._stack.close()
        logs = logs_by_output(logs, list(self.model.output))
        rate, wait = self._rate_of_epoch
        print(
            f"epoch {epoch + 1}/{self.epochs}: loss {logs.get('loss', float('nan')):.4f}, "
            f"accuracy {100 * logs.get('main_output_accuracy', 0):.2f} %, "
            f"validation {100 * logs.get(MONITOR, 0):.2f} %, "
            f"{time.monotonic() - self._start:.0f} s, {rate:.0f} images/s{wait}",
            flush=True,
        )

    def close(self):
        """Ends the bar, also when training ended inside an epoch."""
        self._stack.close()


class WriteEvents(keras.callbacks.Callback):
    """TensorBoard events without TensorFlow: every head, rate, input wait, sample predictions.

    `keras.callbacks.TensorBoard` needs TensorFlow on every backend.

    Args:
        workdir: where to.
        samples: a reader whose first batch is shown as images after each epoch.
        steps_per_epoch: of training; values stand over the steps since the run began.
        wait: time spent waiting for input.
    """

    _IMAGES = 24

    def __init__(self, workdir: Workdir, samples: Loader, steps_per_epoch: int, wait: InputWait):
        super().__init__()
        # TensorBoard's own writer of whole files imports TensorFlow where it's installed.
        from tensorboard.summary.writer.record_writer import RecordWriter

        workdir.tensorboard.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.3f}.{platform.node()}.{os.getpid()}"
        self._writer = RecordWriter(open(workdir.tensorboard / name, "wb"))  # noqa: SIM115
        self._add(file_version="brain.Event:2")
        self._samples = samples
        self._steps_per_epoch = steps_per_epoch
        self._wait = wait

    def on_epoch_begin(self, epoch, logs=None):
        self._start, self._waited = time.monotonic(), self._wait.seconds

    def on_test_begin(self, logs=None):
        passed = max(time.monotonic() - self._start, 1e-9)
        self._share = min(1.0, (self._wait.seconds - self._waited) / passed)

    def on_epoch_end(self, epoch, logs=None):
        from tensorboard.compat.proto.summary_pb2 import Summary

        step = (epoch + 1) * self._steps_per_epoch
        rate = _number(self.model.optimizer.learning_rate)
        logs = logs_by_output(logs, list(self.model.output))
        values = []
        logs["learning_rate"] = rate
        if self._wait.measured:
            logs["input_wait"] = self._share
        for name, value in logs.items():
            group, _, rest = name.partition("val_")
            tag = f"validation/{rest}" if not group and rest else f"train/{name}"
            values.append(Summary.Value(tag=tag, simple_value=value))
        sheet = self._predictions()
        image = Summary.Image(
            height=sheet.shape[0],
            width=sheet.shape[1],
            colorspace=1,
            encoded_image_string=encode_png(sheet),
        )
        values.append(Summary.Value(tag="validation/predictions", image=image))
        self._add(step=step, summary=Summary(value=values))

    def _add(self, **event) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=time.time(), **event).SerializeToString())
        self._writer.flush()

    def _predictions(self) -> np.ndarray:
        """A sheet of validation images with what is read, and what is right where it isn't."""
        batch = self._samples.batch(0, 0)
        count = min(self._IMAGES, len(batch.labels))
        logits = np.asarray(self.model.predict_on_batch(batch.inputs)[MAIN_OUTPUT])[:count]
        charset = self._samples.charset
        texts = []
        for label, read in zip(batch.labels[:count], logits.argmax(axis=1), strict=True):
            right, answer = charset.char(int(label)), charset.char(int(read))
            texts.append(answer if right == answer else f"{answer} ({right})")
        images = [self._samples.store.image(int(i)) for i in batch.indices[:count]]
        return sheet_image(images, texts, columns=8)

    def close(self):
        """Writes what is left."""
        self._writer.close()
