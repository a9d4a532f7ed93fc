"""tf.data over the NumPy loader: the same batches in the same order.

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
    loader: Loader,
    output_names: Sequence[str],
    *,
    epoch: int = 0,
    step: int = 0,
    epochs: int | None = 1,
    multiple_of: int = 1,
    workers: int | None = None,
) -> "tf.data.Dataset":
    """Makes a dataset of `(images, {output name: labels})`, one element a batch.

    TensorFlow's threads call `Loader.batch` for the steps to come.

    Args:
        loader: what to read.
        output_names: names of the model's outputs; all share one label.
        epoch: where to begin, as in `Loader.batches`; so are `step`, `epochs` and `workers`.
        step: of that epoch.
        epochs: how far to go.
        multiple_of: number of replicas that share a batch. TensorFlow fails where one of
            them gets nothing, so the last batch of an epoch is filled up with its own
            first samples, by fewer than there are replicas.
        workers: threads that prepare batches.

    Returns:
        Dataset of uint8 (B, H, W, 1) and a dict of int32 (B,).
    """
    import tensorflow as tf

    steps, workers = loader.steps_per_epoch, workers or loader.workers

    def read(position):
        images, labels, _ = loader.batch(*divmod(int(position), steps))
        if len(labels) % multiple_of:
            rows = np.arange(-(-len(labels) // multiple_of) * multiple_of) % len(labels)
            images, labels = images[rows], labels[rows]
        return images, labels

    def element(position):
        # Not `from_generator`: one thread would hand over batches one after another, and on
        # cores that are busy preparing them it waits some milliseconds for its turn.
        images, labels = tf.numpy_function(read, [position], (tf.uint8, tf.int32))
        images.set_shape((None, *loader.preprocessing.image_shape))
        labels.set_shape((None,))
        return images, dict.fromkeys(output_names, labels)

    options = tf.data.Options()
    # One Python loader can't be cut by file; each batch is split over the replicas.
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
    """Wraps a dataset so that it adds to `seconds` the time that its user waits for elements.

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
