"""The reader's batches in the form in which Keras takes them on each backend."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import keras

from hccr_tf.data.loading.loader import Loader


class InputWait:
    """Time that training has spent waiting for its next batch.

    Args:
        measured: whether anything is added; TensorFlow's clock isn't to be had in its
            deterministic mode.

    Attributes:
        seconds: since the run began in this process; 0 where it isn't measured.
    """

    def __init__(self, measured: bool = True):
        self.measured = measured
        self._seconds = 0.0
        self._variable = None

    @property
    def seconds(self) -> float:
        if self._variable is not None:
            return float(self._variable.numpy())
        return self._seconds

    def add(self, seconds: float) -> None:
        """Adds time that was waited."""
        self._seconds += seconds

    def variable(self):
        """A TensorFlow variable that a dataset adds to instead."""
        if self._variable is None:
            import tensorflow as tf

            self._variable = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        return self._variable


class Feed(keras.utils.PyDataset):
    """Random access to a reader's batches of one epoch, for backends without tf.data.

    Reads ahead by itself: Keras takes the first batch of a generator, or of its own
    threads over a PyDataset, to build the model, and doesn't give it back.

    Args:
        reader: what to read.
        output_names: the model's outputs; all share one label.
        epoch: whose batches are given.
        step: the first of them.
        wait: where to add the time that Keras waits for a batch.
    """

    def __init__(
        self,
        reader: Loader,
        output_names,
        epoch: int = 0,
        step: int = 0,
        wait: InputWait | None = None,
    ):
        super().__init__(workers=1)
        self.reader = reader
        self.output_names = list(output_names)
        self.epoch, self.step = epoch, step
        self._wait = wait or InputWait()
        threads = reader.workers
        self._num_ahead = 3 * threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="hccr-feed")
        self._ahead: dict[int, Future] = {}

    def __len__(self) -> int:
        return self.reader.steps_per_epoch - self.step

    def __getitem__(self, index: int):
        begin = time.perf_counter()
        wanted = range(index, min(index + self._num_ahead, len(self)))
        kept = {i: self._ahead[i] for i in wanted if i in self._ahead}
        self._ahead = {
            i: kept.get(i) or self._pool.submit(self.reader.batch, self.epoch, self.step + i)
            for i in wanted
        }
        batch = self._ahead[index].result()
        self._wait.add(time.perf_counter() - begin)
        return batch.inputs, dict.fromkeys(self.output_names, batch.labels)


def fit_arguments(
    train_reader: Loader,
    validation_reader: Loader,
    output_names,
    epoch: int,
    step: int = 0,
    *,
    wait: InputWait | None = None,
    num_replicas: int = 1,
) -> dict:
    """Arguments of `keras.Model.fit` that give it one epoch of the readers' batches, in order.

    Args:
        train_reader: batches of `epoch` from `step` on.
        validation_reader: all its batches after that.
        output_names: the model's outputs; all share one label.
        epoch, step: where to begin.
        wait: where to add the time spent waiting for training batches.
        num_replicas: devices that share each batch.
    """
    if keras.backend.backend() == "tensorflow":
        from hccr_tf.data.loading.tf_dataset import tf_dataset, timed

        dataset = tf_dataset(
            train_reader, output_names, epoch=epoch, step=step, multiple_of=num_replicas
        )
        return {
            "x": timed(dataset, wait.variable()) if wait and wait.measured else dataset,
            "validation_data": tf_dataset(
                validation_reader, output_names, multiple_of=num_replicas
            ),
        }
    return {
        "x": Feed(train_reader, output_names, epoch, step, wait),
        "validation_data": Feed(validation_reader, output_names),
    }
