"""What a run takes: said before its first step, and the time left while it lasts."""

import logging
import math
import os
import time
from dataclasses import dataclass

import keras

from hccr_tf.charset import Charset
from hccr_tf.data.dataset import Dataset
from hccr_tf.data.loading.loader import Loader
from hccr_tf.recipe import Recipe
from hccr_tf.training.compilation import (
    all_layers,
    blueprint_of,
    build_network,
    compile_network,
    distribution_strategy,
    optimizer_values,
)
from hccr_tf.training.keras_data import open_split
from hccr_tf.utils import backend
from hccr_tf.utils.progress import track

logger = logging.getLogger(__name__)

_DAY = 86400
_TRIED_STEPS = 4  # the first of them compiles
_FORWARD = 1 / 3  # of a step's time: back takes about twice as long


class Clock:
    """Estimates the time that a run still takes, by the steps of the epoch that runs.

    It ends at a `deadline` of `time.monotonic` if not before.
    """

    def __init__(self, train: Loader, validation: Loader, epochs: int, deadline: float = math.inf):
        self._deadline = deadline
        self._steps, self._epochs = train.steps_per_epoch, epochs
        self._a_step: float | None = None  # seconds
        self._validating: float | None = None  # seconds of the last validation
        self._share = _FORWARD * len(validation) / train.batch_size  # of a step's, until then

    def begin(self, epoch: int, step: int = 0) -> None:
        """Notes that an epoch begins, or goes on behind some step."""
        self._epoch, self._step = epoch, step
        self._mark: tuple[int, float] | None = None

    def advance(self, steps: int = 1) -> None:
        """Notes the end of steps; the first ones may have compiled, and aren't measured."""
        self._step, self._now = self._step + steps, time.monotonic()
        if self._mark is None:
            self._mark = self._step, self._now
        else:
            first, begun = self._mark
            self._a_step = (self._now - begun) / (self._step - first)

    def end_epoch(self) -> None:
        """Notes the end of an epoch's validation."""
        self._validating = time.monotonic() - self._now
        self._epoch, self._step = self._epoch + 1, 0

    def left(self) -> float | None:
        """Estimates seconds to the end of the recipe's epochs; None before any is measured."""
        if self._a_step is None:
            return None
        epochs = self._epochs - self._epoch
        validating = self._validating or self._share * self._a_step
        left = self._a_step * (epochs * self._steps - self._step) + validating * epochs
        return max(0.0, min(left, self._deadline - time.monotonic()))


@dataclass(frozen=True)
class Cost:
    """What a network takes in training: parameters, and bytes.

    Memory is that of weights, gradients and the optimiser's averages (`fixed`) and every layer's
    output for a batch. Frameworks hold a few of the largest once more for a while. On disk are two
    checkpoints, and the best weights twice.
    """

    parameters: int
    fixed: int
    batch: int
    disk: int

    @property
    def memory(self) -> int:
        """Returns the bytes that it takes at least."""
        return self.fixed + self.batch

    @classmethod
    def of(cls, recipe: Recipe, num_classes: int) -> "Cost":
        """Computes it without making the network's values."""
        model = blueprint_of(recipe, num_classes)
        parameters = model.count_params()
        learnt = sum(math.prod(v.shape) for v in model.trainable_variables)
        averages = optimizer_values(recipe) * learnt
        tensors = (t for layer in all_layers(model) for t in keras.tree.flatten(layer.output))
        batch = recipe.batch_size * sum(math.prod(t.shape[1:]) for t in tensors)
        batch *= 2 if recipe.mixed_precision else 4
        disk = 4 * (2 * (parameters + averages) + 2 * parameters)
        return cls(parameters, 4 * (parameters + learnt + averages), batch, disk)


def describe(recipe: Recipe, train: Loader, validation: Loader) -> str:
    """Writes what a run of a recipe takes: images, steps, parameters, memory, disk."""
    cost = Cost.of(recipe, len(train.charset))
    steps = train.steps_per_epoch
    return (
        f"{recipe.name}: {len(train):,} training and {len(validation):,} validation images of "
        f"{len(train.charset):,} classes, {steps:,} steps of {recipe.batch_size} an epoch, "
        f"{steps * recipe.epochs:,} in {recipe.epochs} epochs; {cost.parameters:,} "
        f"parameters; {cost.memory / 1e9:.2g} GB of memory and what the framework needs, "
        f"{cost.fixed / 1e9:.2g} for weights, gradients and the optimiser and "
        f"{cost.batch / 1e9:.2g} for a batch; {cost.disk / 1e9:.2g} GB on disk."
    )


def dry_run(recipe: Recipe, dataset: Dataset, charset: Charset | None = None) -> float | None:
    """Logs what a run takes, and how long by some of its steps; writes nothing.

    Returns:
        Seconds that it takes here; None where it needs more memory than this machine has.

    Raises:
        HccrError: what `train` raises of the recipe and the dataset.
    """
    backend.prepare_fit()
    charset = charset or dataset.charset
    train, validation = (open_split(recipe, dataset, charset, s) for s in ("train", "validation"))
    logger.info(describe(recipe, train, validation))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if Cost.of(recipe, len(charset)).memory > there and not _has_gpu():
        text = "This machine has %.2g GB of memory: too few to try how long it takes."
        logger.info(text, there / 1e9)
        return None
    logger.info("Trying %d steps; the first compiles, which may take minutes.", _TRIED_STEPS)
    strategy = distribution_strategy()
    model = build_network(recipe, len(charset), None, strategy)
    # Of stages the last: most learns in it.
    compile_network(model, recipe, recipe.all_stages()[-1], train, strategy)
    clock = Clock(train, validation, recipe.epochs)
    clock.begin(0)
    for step in track(range(_TRIED_STEPS), "trying", _TRIED_STEPS):
        images, labels, _ = train.batch(0, step % train.steps_per_epoch)
        model.train_on_batch(images, dict.fromkeys(model.output, labels))
        clock.advance()
    seconds = clock.left() or 0.0
    logger.info("By %d steps, training takes about %s here.", _TRIED_STEPS - 1, duration(seconds))
    warn_if_long(seconds)
    return seconds


def _has_gpu() -> bool:
    return not all(d.startswith("cpu") for d in keras.distribution.list_devices())


def warn_if_long(seconds: float) -> bool:
    """Warns where a run takes over a day without a GPU; returns whether it does."""
    long = seconds > _DAY and not _has_gpu()
    if long:
        message = (
            "No GPU was found, and on this machine's processor the run takes about %s. Install "
            "the extra [gpu] on a machine that has one, or make the run smaller: --image-size, "
            "--samples-per-class, --epochs, or the network's own sizes (hccr model)."
        )
        logger.warning(message, duration(seconds))
    return long


def duration(seconds: float) -> str:
    """Writes a time in its two largest units.

    Example:
        >>> duration(7), duration(200), duration(7500), duration(200_000)
        ('7 s', '3 min', '2 h 5 min', '2 d 7 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h"
