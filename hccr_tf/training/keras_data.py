"""A loader's batches in the form in which Keras takes them on each backend."""

import logging
import time
from collections.abc import Sequence

import keras
import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.dataset import Dataset
from hccr_tf.data.loading.loader import Loader
from hccr_tf.evaluation.significance import wilson_interval
from hccr_tf.recipe import Recipe
from hccr_tf.training import processes

logger = logging.getLogger(__name__)
_WIDEST = 0.1  # 95 % interval of an accuracy of 90 %: of fewer than about 140 images it's wider


class InputWait:
    """Time that training has spent waiting for its next batch.

    Not `measured`, it stays 0: TensorFlow's clock isn't to be had in its deterministic mode.
    """

    def __init__(self, measured: bool = True):
        self.measured = measured
        self._seconds = 0.0
        self._variable = None

    @property
    def seconds(self) -> float:
        """Returns the time waited since the run began in this process."""
        return self._seconds if self._variable is None else float(self._variable.numpy())

    def add(self, seconds: float) -> None:
        """Adds time that was waited."""
        self._seconds += seconds

    def variable(self):
        """Returns a TensorFlow variable that a dataset adds to instead."""
        if self._variable is None:
            import tensorflow as tf

            self._variable = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        return self._variable


class KerasDataset(keras.utils.PyDataset):
    """A loader's batches of one epoch, from a step on, for backends without tf.data.

    Of several processes each has its part of every batch. On several devices the last batch is
    filled up to a whole one, whose labels are a column (B, 1); see `processes.drop_filling`.

    Not a generator: Keras takes the first batch of one to build the model, and doesn't give it
    back. Here it asks for that batch once more.
    """

    def __init__(
        self,
        loader: Loader,
        output_names: Sequence[str],
        epoch: int = 0,
        step: int = 0,
        wait: InputWait | None = None,
    ):
        super().__init__(workers=1)  # the loader reads ahead
        self._loader, self._epoch, self._step = loader, epoch, step
        self._output_names, self._wait = output_names, wait or InputWait()
        self._shard, self._index = processes.shard(), -1
        self._batches = loader.batches(epoch, step, shard=self._shard)

    def __len__(self) -> int:
        """Returns the number of batches from the first step on."""
        return self._loader.steps_per_epoch - self._step

    def __getitem__(self, index: int):
        """Returns (images, labels by output) of one batch; they're read ahead in order."""
        if index != self._index:
            begun = time.perf_counter()
            if index != self._index + 1:
                position = self._epoch, self._step + index
                self._batches = self._loader.batches(*position, shard=self._shard)
            images, labels, _ = next(self._batches)
            self._wait.add(time.perf_counter() - begun)
            if keras.distribution.distribution() and index == len(self) - 1:
                images, labels = self._filled(images, labels)
            self._index, self._batch = index, (images, dict.fromkeys(self._output_names, labels))
        return self._batch

    def _filled(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Adds rows of zeros to a last batch, whose labels become a column, if it isn't whole."""
        loader = self._loader
        if not len(loader) * loader.passes % loader.batch_size:
            return images, labels
        filling = [(0, loader.batch_size // self._shard[1] - len(labels))]
        return np.pad(images, filling + [(0, 0)] * 3), np.pad(labels, filling)[:, None]


def open_split(recipe: Recipe, dataset: Dataset, charset: Charset, split: str) -> Loader:
    """Opens the split "train" or "validation" as a recipe reads it."""
    trains = split == "train"
    per_class = recipe.samples_per_class if trains else recipe.validation_per_class
    loader = Loader(
        dataset,
        split,
        recipe.preprocessing,
        recipe.batch_size,
        charset=charset,
        shuffle=trains,
        seed=recipe.seed,
        augmentation=recipe.augmentation if trains else None,
        per_class=per_class,
        passes=recipe.passes if trains else 1,
    )
    low, high = wilson_interval(round(0.9 * len(loader)), len(loader))
    if not trains and high - low > _WIDEST:
        message = (
            "Validation has %d images: an accuracy of 90 %% on so many has a 95 %% interval of "
            "%.0f to %.0f %%, and chance chooses among epochs that differ by less. Prepare more "
            "with a larger --validation-fraction."
        )
        logger.warning(message, len(loader), 100 * low, 100 * high)
    counts = np.bincount(loader.labels)
    if per_class is not None and (few := int((counts[counts > 0] < per_class).sum())):
        message = "%d classes have fewer than %d images in %s; all of theirs are taken."
        logger.info(message, few, per_class, split)
    return loader


def fit_arguments(
    train: Loader,
    validation: Loader,
    output_names: Sequence[str],
    epoch: int,
    step: int,
    wait: InputWait,
    num_replicas: int = 1,
) -> dict:
    """Makes the arguments with which Keras fits one epoch of the loaders' batches, in order.

    Those of `epoch` from `step` on are trained on, and all of the validation split follow. Every
    output learns the one label; `wait` gets the time spent waiting for training batches, and
    `num_replicas` devices share each batch.
    """
    if keras.backend.backend() == "tensorflow":
        from hccr_tf.data.loading.tf_dataset import tf_dataset, timed

        dataset = tf_dataset(train, output_names, epoch=epoch, step=step, multiple_of=num_replicas)
        return {
            "x": timed(dataset, wait.variable()) if wait.measured else dataset,
            "validation_data": tf_dataset(validation, output_names, multiple_of=num_replicas),
        }
    return {
        "x": KerasDataset(train, output_names, epoch, step, wait),
        "validation_data": KerasDataset(validation, output_names),
    }
