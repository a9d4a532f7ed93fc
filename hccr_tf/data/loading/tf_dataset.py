"""tf.data over the NumPy reader: the same batches in the same order.

The only module of the data package that needs TensorFlow. `MirroredStrategy` splits
the dataset's batches over its GPUs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hccr_tf.data.loading.loader import Loader

if TYPE_CHECKING:
    import tensorflow as tf

_ENDLESS = 2**62  # steps


def tf_dataset(
    reader: Loader,
    output_names: Sequence[str],
    *,
    epoch: int = 0,
    step: int = 0,
    epochs: int | None = 1,
    multiple_of: int = 1,
    workers: int | None = None,
) -> "tf.data.Dataset":
    """A dataset of `(inputs, {output name: labels})`, one element a batch.

    TensorFlow's threads call `Loader.batch` for the steps to come and take its
    arrays as they are, without a copy.

    Args:
        reader: what to read.
        output_names: names of the model's outputs; all share one label.
        epoch, step, epochs: where to begin and how far to go, as `Loader.batches`.
        multiple_of: number of replicas that share a batch. TensorFlow fails where one of
            them gets nothing, so the last batch of an epoch is filled up with its own
            first samples, by fewer than there are replicas.
        workers: threads that prepare batches; None for `reader.workers`.

    Returns:
        Dataset of uint8 (B, H, W, 1) and a dict of int32 (B,); of a reader with `padded_to`
        the inputs are a pair, as `UnpreparedBatch.inputs`.
    """
    import tensorflow as tf

    steps, workers = reader.steps_per_epoch, workers or reader.workers

    unprepared = reader.padded_to is not None
    side = reader.padded_to if unprepared else reader.preprocessing.image_size
    shapes = [(None, side, side, 1), *([(None, 2)] if unprepared else []), (None,)]
    dtypes = [tf.uint8, *([tf.int32] if unprepared else []), tf.int32]

    def read(position):
        batch = reader.batch(*divmod(int(position), steps))
        inputs = batch.inputs if unprepared else (batch.inputs,)
        arrays = (*inputs, batch.labels)
        count = len(batch.labels)
        if count % multiple_of:
            rows = np.arange(-(-count // multiple_of) * multiple_of) % count
            arrays = tuple(array[rows] for array in arrays)
        return arrays

    def element(position):
        # Not `from_generator`: one thread would hand over batches one after another, and on
        # cores that are busy preparing them it waits some milliseconds for its turn.
        tensors = tf.numpy_function(read, [position], dtypes)
        for tensor, shape in zip(tensors, shapes, strict=True):
            tensor.set_shape(shape)
        *inputs, labels = tensors
        inputs = tuple(inputs) if unprepared else inputs[0]
        return inputs, dict.fromkeys(output_names, labels)

    options = tf.data.Options()
    # One Python reader can't be cut by file; each batch is split over the replicas.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # Nothing here is to be tuned, and TensorFlow 2.21 can wait for its tuner for up to two
    # seconds at the end of an epoch.
    options.autotune.enabled = False
    # Threads that wait for the interpreter's lock must not be those that train.
    options.threading.private_threadpool_size = workers
    first = epoch * steps + step
    end = _ENDLESS if epochs is None else (epoch + epochs) * steps
    dataset = tf.data.Dataset.range(first, end)
    dataset = dataset.map(element, num_parallel_calls=workers, deterministic=True)
    return dataset.with_options(options).prefetch(2)


def timed(dataset: "tf.data.Dataset", seconds: "tf.Variable") -> "tf.data.Dataset":
    """The same dataset, which adds to `seconds` the time that its user waits for elements.

    Args:
        dataset: any dataset, read ahead of.
        seconds: float64 scalar.
    """
    import tensorflow as tf

    def note(begin, element):
        seconds.assign_add(tf.timestamp() - begin)
        return element

    # A zip asks its parts in turn: the clock first, when an element is asked for.
    clock = tf.data.Dataset.counter().map(lambda _: tf.timestamp())
    return tf.data.Dataset.zip((clock, dataset)).map(note)
