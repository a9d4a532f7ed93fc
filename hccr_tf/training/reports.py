"""How training goes, shown while it lasts: a bar, lines, events for TensorBoard."""

import contextlib
import logging
import math
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from tensorboardX import SummaryWriter

from hccr_tf.data.loading.loader import Loader
from hccr_tf.images.contact_sheet import sheet_image
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.models.weights import save_weights
from hccr_tf.recipe import Recipe
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training import processes
from hccr_tf.training.checkpoints import Position
from hccr_tf.training.keras_data import InputWait
from hccr_tf.training.plan import Clock, duration, warn_if_long
from hccr_tf.training.stages import MONITOR, best_epoch, is_finished
from hccr_tf.utils.files import atomic_write, write_json
from hccr_tf.utils.progress import progress_bar

logger = logging.getLogger(__name__)

_SHOWN_IMAGES = 24
_INTERVAL = 60.0  # seconds between the lines of an epoch
_FIRST = 10.0  # seconds until the first one
_SETTLED = 3  # steps after which the time left is worth a warning


class Report(keras.callbacks.Callback):
    """Reports every step in a terminal's bar, and every epoch in the log and to TensorBoard.

    Where output is a file, a line a minute stands in for the bar.

    Keras's own bar would print the loss and accuracy of every head at every step, and its
    TensorBoard callback needs TensorFlow on every backend. Images of the first validation batch
    are shown after each epoch of the recipe's `epochs`, with what is read.
    """

    def __init__(
        self,
        workdir: Workdir,
        epochs: int,
        train: Loader,
        validation: Loader,
        start: Position,
        wait: InputWait,
        deadline: float = math.inf,
    ):
        super().__init__()
        self.speed: dict[str, float] = {}  # of the last epoch that was trained
        self._epochs, self._train, self._validation = epochs, train, validation
        self._start, self._wait = start, wait
        self._leads = processes.leads()
        self._writer = SummaryWriter(str(workdir.tensorboard), write_to_disk=self._leads)
        self._bar = contextlib.ExitStack()
        self._clock, self._warned = Clock(train, validation, epochs, deadline), False
        # A bar on one of the two is no line in the other.
        self._seen = sys.stderr.isatty() and sys.stdout.isatty()
        self._said = time.monotonic() + _FIRST - _INTERVAL

    def on_epoch_begin(self, epoch, logs=None):
        """Opens the epoch's bar."""
        self._epoch = epoch
        self._begun, self._waited = time.monotonic(), self._wait.seconds
        self._first = self._done = self._start.step if epoch == self._start.epoch else 0
        self._clock.begin(epoch, self._first)
        steps = self._train.steps_per_epoch
        title = f"epoch {epoch + 1}/{self._epochs}"
        bar = progress_bar(title, steps, self._leads, done=self._done)
        self._advance = self._bar.enter_context(bar)

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar on, or writes a line once a minute."""
        # Of several steps at once, `batch` is the last one's number since the epoch was begun here.
        steps = min(self._first + batch + 1, self._train.steps_per_epoch) - self._done
        self._done += steps
        self._clock.advance(steps)
        count = f"{self._done}/{self._train.steps_per_epoch}"
        state = f"{_learning(logs)}, {self._speed()}"
        # What is cut off where a terminal is narrow stands last.
        self._advance(steps, f"{count}{self._left()}, {state}")
        if not self._seen and time.monotonic() - self._said >= _INTERVAL:
            self._said = time.monotonic()
            line = "epoch %d/%d, step %s: %s%s"
            logger.info(line, self._epoch + 1, self._epochs, count, state, self._left())
        if not self._warned and self._done - self._first >= _SETTLED:
            self._warned = warn_if_long(self._clock.left() or 0.0)

    def on_test_begin(self, logs=None):
        """Keeps the speed of training, to which validation doesn't count."""
        self._trained = self._speed()
        self._advance(0, "validating")

    def on_epoch_end(self, epoch, logs=None):
        """Logs the epoch's line and writes its events."""
        self._bar.close()
        self._clock.end_epoch()
        logger.info(
            "epoch %d/%d: %s, validation %.2f %%, %.0f s, %s%s",
            epoch + 1,
            self._epochs,
            _learning(logs),
            100 * logs.get(MONITOR, 0),
            time.monotonic() - self._begun,
            self._trained,
            self._left(),
        )
        step = (epoch + 1) * self._train.steps_per_epoch
        scalars = {**logs, "learning_rate": current_rate(self.model)}
        if self._wait.measured:
            scalars |= self.speed
        for name, value in scalars.items():
            validation = name.removeprefix("val_")
            tag = f"train/{name}" if name == validation else f"validation/{validation}"
            self._writer.add_scalar(tag, float(value), step)
        self._writer.add_image("validation/predictions", self._sheet(), step, dataformats="HW")
        self._writer.flush()

    def close(self) -> None:
        """Ends the bar and the events, also when training ended inside an epoch."""
        self._bar.close()
        self._writer.close()

    def _left(self) -> str:
        left = self._clock.left()
        return f", {duration(left)} left in all" if left else ""

    def _speed(self) -> str:
        """Measures images a second, and the share of the time spent waiting for them."""
        seconds = max(time.monotonic() - self._begun, 1e-9)
        rate = (self._done - self._first) * self._train.batch_size / seconds
        share = min(1.0, (self._wait.seconds - self._waited) / seconds)
        self.speed = {"images_per_second": round(rate, 1), "input_wait": round(share, 4)}
        wait = f", input wait {100 * share:.0f} %" if self._wait.measured else ""
        return f"{rate:.0f} images/s{wait}"

    def _sheet(self) -> np.ndarray:
        """Draws validation images with what is read, and in brackets what they are, as uint8."""
        images, labels, indices = self._validation.batch(0, 0)
        logits = np.asarray(self.model.predict_on_batch(images)[MAIN_OUTPUT])
        charset = self._validation.charset
        texts = []
        for label, answer in zip(labels[:_SHOWN_IMAGES], logits.argmax(axis=1), strict=False):
            text, true_text = charset.char(int(answer)), charset.char(int(label))
            texts.append(text if text == true_text else f"{text} ({true_text})")
        originals = self._validation.dataset.images(indices[:_SHOWN_IMAGES])
        return sheet_image(originals, texts, columns=8)


def write_results(
    workdir: Workdir,
    recipe: Recipe,
    model: keras.Model,
    prediction_names: set[str],
    position: Position,
    history: list[dict],
    seconds: list[float],
) -> None:
    """Writes what an epoch leaves: its weights, if it's the best, then history and state.

    Of the variables those of `prediction_names` predict; `seconds` are of each epoch.
    """
    best = history[best_epoch(history)]
    if best is history[-1] and not position.step:
        epoch, variables = len(history), model.variables
        stand = {"epoch": epoch, "history": history}
        save_weights(workdir.best_weights, {"model": variables}, stand)
        needed = [v for v in variables if v.path in prediction_names]
        save_weights(workdir.prediction_weights, {"model": needed}, {"epoch": epoch})
    with atomic_write(workdir.history_path) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
    workdir.update_run(
        state="finished" if is_finished(history, recipe) else "running",
        epochs_done=len(history),
        best_epoch=best["epoch"],
        best_val_accuracy=best[MONITOR],
        train_seconds=round(sum(seconds), 1),
    )


def report_divergence(
    workdir: Workdir, what: str, position: Position, ids: list[str], newest: Path | None
) -> str:
    """Writes down the samples after which numbers weren't finite, and returns what to say of it.

    `what` wasn't finite at a position, behind a batch with the samples `ids`; `newest` is the last
    good checkpoint.
    """
    epoch, step = position.epoch + 1, position.step
    report = workdir.path / "diverged.json"
    write_json(report, {"what": what, "epoch": epoch, "step": step, "sample_ids": ids})
    workdir.update_run(state="diverged")
    shown = ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
    return (
        f"{what} at step {step} of epoch {epoch}, with the batch {shown} (all in {report}). "
        f"The last good checkpoint is {newest or 'none yet'}; lower --learning-rate in a new "
        "--workdir (--init-from takes this run's best weights), or use --mixed-precision "
        "bfloat16 in place of float16."
    )


def current_rate(model: keras.Model) -> float:
    """Reads the learning rate of a model's optimiser."""
    # By way of a tensor: under a distribution strategy a variable has one value a device.
    rate = keras.ops.convert_to_tensor(model.optimizer.learning_rate)
    return float(keras.ops.convert_to_numpy(rate))


def _learning(logs: dict[str, float]) -> str:
    accuracy = 100 * logs.get(f"{MAIN_OUTPUT}_accuracy", 0)
    return f"loss {logs.get('loss', float('nan')):.4f}, accuracy {accuracy:.2f} %"
