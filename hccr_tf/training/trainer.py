"""The one training loop: a recipe, a dataset and a folder in; a trained run out."""

import contextlib
import logging
import math
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from hccr_tf.charset import Charset
from hccr_tf.data.dataset import Dataset
from hccr_tf.data.opening import open_dataset
from hccr_tf.data.store.format import STROKES_FORMAT
from hccr_tf.evaluation.plots import curves_figure, save_figure
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.recipe import Recipe
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training import processes
from hccr_tf.training.checkpoints import CheckpointInterval, Checkpoints, Position
from hccr_tf.training.compilation import (
    build_network,
    compile_network,
    distribution_strategy,
    prediction_names,
)
from hccr_tf.training.keras_data import InputWait, KerasDataset, fit_arguments, open_split
from hccr_tf.training.origin import check_same, initialise
from hccr_tf.training.plan import describe
from hccr_tf.training.precise_bn import estimate_statistics
from hccr_tf.training.reports import Report, current_rate, report_divergence, write_results
from hccr_tf.training.schedules import stall_rate
from hccr_tf.training.signals import Interrupted, StopRequest
from hccr_tf.training.stages import current_stage, is_finished
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import exclusive_lock

logger = logging.getLogger(__name__)

# From so many on processes draw an epoch of strokes: they take a second to start.
MANY_IMAGES = 20_000
_VALIDATION_SECONDS = 10


class DivergenceError(HccrError):
    """The loss or the weights are no longer finite numbers."""


def train(
    recipe: Recipe | str, dataset: Dataset | str | Path, workdir: str | Path, **options
) -> Workdir:
    """Trains a recipe on a dataset's training split, or goes on where a run stopped.

    Best weights are those with the highest validation accuracy of the main output; of several such
    epochs the one with the lowest loss. Killed at any moment, a run goes on from its last
    checkpoint; in deterministic mode on a CPU it ends with the same weights and history, bit for
    bit, as one that was never killed.

    Args:
        recipe: what to train, or its name.
        dataset: with a training and a validation split, or its folder.
        workdir: folder for everything the run makes; one that holds an unfinished run
            of the same recipe and data is continued from its last checkpoint.
        **options: `init_from`, workdir of another run whose best weights this one starts from, in
            place of the recipe's `weights`, or "recogniser" for those that come with the package;
            the recipe's own if None, none if "none". Where the charsets differ, output layers keep
            the rows of characters that both know, and others start fresh. A run that goes on is
            given the same, of which nothing is read then. `charset`, class order of the network,
            which must cover the dataset; the dataset's own if None. `checkpoints`, how often to
            save within an epoch; every ten minutes if None. After each epoch a run saves anyway.
            `minutes`: no epoch begins that would end behind them; with more, the run goes on.

    Returns:
        The run's folder.

    Raises:
        HccrError: the workdir holds a run of another recipe, charset or data, a split is
            empty, the charset doesn't cover the dataset, or weights don't fit.
        DivergenceError: the loss or the weights are no longer finite.
        Interrupted: SIGTERM or Ctrl-C came; the run was saved first.
        BlockingIOError: another process trains in this workdir.
        OSError: the disk is full; the run goes on from its last checkpoint.
    """
    return Trainer(recipe, dataset, workdir, **options).run()


class Trainer:
    """Trains one run; arguments are those of `train`.

    Attributes:
        history: a row an epoch that is done.
        position: epochs and steps done.
        model: the network that learns, once `run` was called.
    """

    # TensorFlow's deterministic mode has none, and stays for the process.
    _has_clock = True

    def __init__(
        self,
        recipe: Recipe | str,
        dataset: Dataset | str | Path,
        workdir: str | Path,
        *,
        init_from: str | Path | None = None,
        charset: Charset | None = None,
        checkpoints: CheckpointInterval | None = None,
        minutes: float | None = None,
    ):
        if isinstance(recipe, Recipe):
            self.recipe = recipe
        else:  # recipes stand on a floor above training
            self.recipe = import_module("hccr_tf.papers.recipes").get_recipe(recipe)
        if init_from is None and (init_from := self.recipe.init_from) is not None:
            logger.info("Begins with %s; --init-from none trains from scratch.", init_from)
        if init_from == "none":
            init_from = None
        if init_from is not None:
            self.recipe = self.recipe.override(weights=None)  # they'd be written over
        self.dataset = open_dataset(dataset)
        self.workdir = Workdir(Path(workdir))
        self.charset = charset or self.dataset.charset
        self.model: keras.Model
        self.history: list[dict] = []
        self.position = Position()
        self._init_from = init_from
        self._limit = math.inf if minutes is None else 60 * minutes
        self._checkpoints = Checkpoints(self.workdir.checkpoints, checkpoints)
        self._stop = StopRequest()
        self._stage: int | None = None
        self._rate: float | None = None  # set last under the schedule "stall"
        # Times are no part of the history, which repeats to the bit.
        self._seconds: list[float] = []  # of the epochs that are done
        self._spent = 0.0  # on the running epoch by earlier processes

    def run(self) -> Workdir:
        """Trains to the end of the recipe; returns and raises what `train` does."""
        workdir, leads = self.workdir, processes.leads()
        workdir.path.mkdir(parents=True, exist_ok=True)
        busy = f"another process trains in {workdir.path}; wait for it, or take another --workdir"
        lock = exclusive_lock(workdir.lock_path, busy, 3) if leads else contextlib.nullcontext()
        together = processes.ending_together(self._checkpoints.paths)
        devices = processes.parallel
        with together, lock, self._stop.listening(), devices(self.recipe.batch_size):
            finished, kept = self._is_finished(), [path.name for path in self._checkpoints.paths()]
            data = self.dataset.data_hash, self.charset.text
            processes.check_alike(self.recipe, data, finished, kept)
            if finished:
                further = "Another --workdir with --init-from trains its network further"
                logger.info("%s is finished; nothing to do. %s.", workdir.path, further)
                return workdir
            self._build()
            if not self._restore():
                self._begin()
            self._train_epochs()
            if leads:
                curves = curves_figure({workdir.path.name: pd.DataFrame(self.history)})
                save_figure(curves, workdir.curves_path)
        return workdir

    # === Before the first step ===

    def _is_finished(self) -> bool:
        """Checks that the folder's run is this one; returns whether there's nothing left to do."""
        if not self.workdir.exists():
            return False
        check_same(self.workdir, self.recipe, self.dataset.data_hash, self.charset, self._init_from)
        state = self.workdir.read_run()["state"]
        return state == "finished" and is_finished(self.workdir.read_history(), self.recipe)

    def _build(self) -> None:
        """Starts the framework, opens the splits and builds the network."""
        backend.prepare_fit()
        if self.recipe.deterministic and keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
            Trainer._has_clock = False
        self._wait = InputWait(measured=self._has_clock)
        self._train, self._validation = (
            open_split(self.recipe, self.dataset, self.charset, split)
            for split in ("train", "validation")
        )
        logger.info(describe(self.recipe, self._train, self._validation))
        keras.utils.set_random_seed(self.recipe.seed)  # the last before the network's values
        # What a run begins with is in its checkpoints; to go on, it needn't be there any more.
        begins = self._init_from is None and not self._checkpoints.paths()
        self._strategy = distribution_strategy()
        self.model = build_network(
            self.recipe, len(self.charset), self.recipe.weights if begins else None, self._strategy
        )
        if keras.distribution.distribution():
            processes.drop_filling(self.model, self._train, self._validation)
        self._prediction_names = prediction_names(self.recipe, len(self.charset))

    def _restore(self) -> bool:
        """Goes on from the newest intact checkpoint; returns whether there's one."""
        kept = self._checkpoints.restore(self.model)
        if kept is None:
            return False
        self.position, self.history = Position(kept["epoch"], kept["step"]), kept["history"]
        self._seconds, self._spent = kept["seconds"], kept["spent"]
        logger.info("Going on in %s from %s.", self.workdir.path, self.position)
        stage, first_epoch = current_stage(self.history, self.recipe)
        self._compile(min(stage, len(self.recipe.all_stages()) - 1))
        if self.position != Position(first_epoch):  # a stage begins with a fresh one
            self._checkpoints.restore_optimizer(self.model)
        if self.position.step:
            # Keras makes the outputs' metrics, which are to be filled, with a first batch.
            self.model.test_on_batch(*KerasDataset(self._validation, list(self.model.output))[0])
        if self.history:
            # A kill may have come between the checkpoint and the epoch's other files.
            self._write_results()
        return True

    def _begin(self) -> None:
        """Fills the network as the run is to begin, and writes the folder's fixed files."""
        if self.workdir.history_path.exists():
            # Epochs are written after their checkpoint: it was deleted, or is of an older version.
            raise HccrError(
                f"{self.workdir.path} holds {len(self.workdir.read_history())} epochs and no "
                "checkpoint to go on from. Take another --workdir; --init-from starts from this "
                "run's best weights."
            )
        source = self._init_from
        origin = {} if source is None else initialise(self.model, self.recipe, source, self.charset)
        if processes.leads() and not self.workdir.exists():
            # Not before: what can't begin leaves nothing that other settings would contradict.
            self.workdir.begin(
                self.recipe, self.charset, self.dataset.data_hash, self.dataset.path, **origin
            )

    # === Epochs ===

    @property
    def _steps_done(self) -> int:
        # By batches: under float16 an optimiser doesn't count steps that overflow.
        return self.position.epoch * self._train.steps_per_epoch + self.position.step

    def _train_epochs(self) -> None:
        recipe, stages = self.recipe, self.recipe.all_stages()
        deadline = time.monotonic() + self._limit - sum(self._seconds)
        about = self.workdir, recipe.epochs, self._train, self._validation
        report = Report(*about, self.position, self._wait, deadline)
        self._callbacks = [
            report,
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: self._begin_epoch(epoch),
                on_train_batch_end=lambda batch, logs: self._end_step(logs["loss"]),
                on_test_begin=lambda logs: estimate_statistics(
                    self.model, self._train, self.position.epoch
                ),
                on_test_batch_end=lambda batch, logs: self._end_validation_step(),
            ),
        ]
        drawn = self.dataset.manifest.get("format") == STROKES_FORMAT
        in_processes = drawn and len(self._train) >= MANY_IMAGES
        drawing = self._train.processes() if in_processes else contextlib.nullcontext()
        with contextlib.closing(report), drawing:
            for epoch in range(self.position.epoch, recipe.epochs):
                stage, first_epoch = current_stage(self.history, recipe)
                if stage == len(stages):
                    break
                # The first epoch is none to go by where it compiles.
                late = self._seconds and time.monotonic() + min(self._seconds) > deadline
                if processes.largest(bool(late)):
                    logger.info("Ended by time, behind epoch %d of %d.", epoch, recipe.epochs)
                    break
                if stage != self._stage:
                    if len(stages) > 1:
                        said = stage + 1, len(stages), first_epoch + 1, stages[stage].description
                        logger.info("Stage %d of %d, from epoch %d on: %s.", *said)
                    self._compile(stage)
                self._end_epoch(epoch, self._fit(epoch))
                if processes.leads():
                    self.workdir.update_run(**report.speed)

    def _compile(self, stage: int) -> None:
        settings = self.recipe.all_stages()[stage]
        compile_network(self.model, self.recipe, settings, self._train, self._strategy)
        self._stage = stage

    def _fit(self, epoch: int) -> dict[str, float]:
        """Trains and validates one epoch, or what is left of it; returns its metrics."""
        names, step = list(self.model.output), self.position.step
        replicas = self._strategy.num_replicas_in_sync if self._strategy else 1
        loaders = self._train, self._validation
        fitted = self.model.fit(
            # An epoch a call: its data begin where they are asked to, in the middle too.
            **fit_arguments(*loaders, names, epoch, step, self._wait, replicas),
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            shuffle=False,  # the loader has shuffled
            callbacks=self._callbacks,
        )
        metrics = {name: float(values[-1]) for name, values in fitted.history.items()}
        for output in self.model.output:  # Keras names no loss of an only one
            metrics.setdefault(f"{output}_loss", metrics["loss"])
            metrics.setdefault(f"val_{output}_loss", metrics["val_loss"])
        return metrics

    def _begin_epoch(self, epoch: int) -> None:
        self._begun = time.monotonic()
        if self.position.step:  # restored within the epoch
            self._checkpoints.restore_metrics(self.model)
        self._set_stall_rate()

    def _end_step(self, loss: float) -> None:
        step = self.position.step + self.recipe.steps_per_execution
        self.position = Position(self.position.epoch, min(step, self._train.steps_per_epoch))
        if not math.isfinite(loss):
            self._diverged(f"The loss is {loss}")
        self._set_stall_rate()
        # Not at the last step: validation and the epoch's own checkpoint follow.
        if self._steps_done % self._train.steps_per_epoch:
            asked = processes.largest(self._stop.number)
            if asked or self._checkpoints.due(self._steps_done):
                self._save()
            self._leave_if(asked)

    def _set_stall_rate(self) -> None:
        """Sets the rate of the next step, if the schedule is "stall" and it changes."""
        recipe, steps = self.recipe, self._train.steps_per_epoch
        if recipe.schedule != "stall":
            return
        accuracies = [row[f"{MAIN_OUTPUT}_accuracy"] for row in self.history]
        peak, first = recipe.learning_rate, recipe.first_steps
        rate = stall_rate(peak, first, accuracies, steps, self._steps_done)
        if rate != self._rate:
            self._sync_variables()
            self.model.optimizer.learning_rate = self._rate = rate

    def _end_validation_step(self) -> None:
        # A validation that ends soon ends with a checkpoint. One that takes longer than whoever
        # sent the signal may wait is left, and what follows the last checkpoint is done again.
        late = time.monotonic() - self._stop.since > _VALIDATION_SECONDS
        self._leave_if(processes.largest(self._stop.number * late))

    def _end_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        self._seconds.append(round(self._spent + time.monotonic() - self._begun, 2))
        self.position, self._spent = Position(epoch + 1), 0.0
        row: dict[str, float] = {"epoch": epoch + 1, "step": self._steps_done}
        row["learning_rate"] = current_rate(self.model)
        self.history.append({**row, **dict(sorted(metrics.items()))})
        # First, because a continuation reads it, and from it writes what is missing of the rest.
        self._save()
        self._write_results()
        if not is_finished(self.history, self.recipe):
            self._leave_if(processes.largest(self._stop.number))

    def _sync_variables(self) -> None:
        # JAX keeps weights and optimiser in the step's state; Keras writes them back on request,
        # and reads them again at the next step.
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()

    # === Saving and leaving ===

    def _save(self) -> None:
        if not processes.leads():
            return
        self._sync_variables()
        now = time.monotonic() - self._begun if self.position.step else 0.0
        times: dict[str, Any] = {"seconds": self._seconds, "spent": self._spent + now}
        try:
            self._checkpoints.save(
                self.model, self.position, self._steps_done, self.history, **times
            )
        except FloatingPointError as error:
            self._diverged(f"The weights {error} aren't finite")

    def _write_results(self) -> None:
        if processes.leads():
            of_run = self.workdir, self.recipe, self.model, self._prediction_names
            write_results(*of_run, self.position, self.history, self._seconds)

    def _leave_if(self, asked: int) -> None:
        """Leaves if a signal, of that number, came to a process of the training."""
        if asked:
            newest = self._checkpoints.newest
            where = f"saved in {newest}" if newest else "before anything was saved"
            raise Interrupted(
                f"Stopped in epoch {self.position.epoch + 1} after {self.position.step} of its "
                f"{self._train.steps_per_epoch} steps, {where}. The same command goes on there.",
                asked,
            )

    def _diverged(self, what: str) -> None:
        """Names the samples after which numbers weren't finite any more, and raises."""
        # A checkpoint at the end of an epoch looks back on its last step.
        batch = self._train.batch(*divmod(self._steps_done - 1, self._train.steps_per_epoch))
        ids, newest = self.dataset.sample_ids(batch.indices), self._checkpoints.newest
        raise DivergenceError(report_divergence(self.workdir, what, self.position, ids, newest))
