"""tf.data over the NumPy reader: the same batches in the same order.

The only module of the data package that needs TensorFlow. `MirroredStrategy` splits
the dataset's batches over its GPUs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hccr_tf.data.batches import BatchReader

if TYPE_CHECKING:
    import tensorflow as tf


def tf_dataset(
    reader: BatchReader,
    output_names: Sequence[str],
    *,
    epoch: int = 0,
    step: int = 0,
    epochs: int | None = 1,
    multiple_of: int = 1,
) -> "tf.data.Dataset":
    """A dataset of `(images, {output name: labels})`, one element a batch.

    Args:
        reader: what to read.
        output_names: names of the model's outputs; all share one label.
        epoch, step, epochs: where to begin and how far to go, as `BatchReader.batches`.
        multiple_of: number of replicas that share a batch. TensorFlow fails where one of
            them gets nothing, so the last batch of an epoch is filled up with its own
            first samples, by fewer than there are replicas.

    Returns:
        Dataset of uint8 (B, H, W, 1) and a dict of int32 (B,).
    """
    import tensorflow as tf

    def generate():
        for batch in reader.batches(epoch, step, epochs=epochs):
            images, labels = batch.images, batch.labels
            if len(labels) % multiple_of:
                rows = np.arange(-(-len(labels) // multiple_of) * multiple_of) % len(labels)
                images, labels = images[rows], labels[rows]
            yield images, dict.fromkeys(output_names, labels)

    signature = (
        tf.TensorSpec((None, *reader.preprocessing.image_shape), tf.uint8),
        {name: tf.TensorSpec((None,), tf.int32) for name in output_names},
    )
    options = tf.data.Options()
    # One Python reader can't be cut by file; each batch is split over the replicas.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    if epochs is not None:
        # Keras warns of a dataset that ends without having said where.
        num_batches = epochs * reader.steps_per_epoch - step
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    return dataset.with_options(options).prefetch(2)
