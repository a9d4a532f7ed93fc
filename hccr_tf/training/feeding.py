"""The reader's batches in the form in which Keras takes them on each backend."""

from concurrent.futures import Future, ThreadPoolExecutor

import keras

from hccr_tf.data.batches import BatchReader


class Feed(keras.utils.PyDataset):
    """Random access to a reader's batches of one epoch, for backends without tf.data.

    Reads ahead by itself: Keras takes the first batch of a generator, or of its own
    threads over a PyDataset, to build the model, and doesn't give it back.

    Attributes:
        epoch: whose batches are given; `FollowEpoch` sets it.
    """

    _AHEAD = 6
    _THREADS = 2

    def __init__(self, reader: BatchReader, output_names, epoch: int = 0):
        super().__init__(workers=1)
        self.reader = reader
        self.output_names = list(output_names)
        self.epoch = epoch
        self._pool = ThreadPoolExecutor(self._THREADS, thread_name_prefix="hccr-feed")
        self._ahead: dict[tuple[int, int], Future] = {}

    def __len__(self) -> int:
        return self.reader.steps_per_epoch

    def __getitem__(self, step: int):
        wanted = [(self.epoch, s) for s in range(step, min(step + self._AHEAD, len(self)))]
        kept = {key: self._ahead[key] for key in wanted if key in self._ahead}
        self._ahead = {
            key: kept.get(key) or self._pool.submit(self.reader.batch, *key) for key in wanted
        }
        batch = self._ahead[wanted[0]].result()
        return batch.images, dict.fromkeys(self.output_names, batch.labels)


class FollowEpoch(keras.callbacks.Callback):
    """Tells a `Feed` which epoch begins."""

    def __init__(self, feed: Feed):
        super().__init__()
        self.feed = feed

    def on_epoch_begin(self, epoch, logs=None):
        self.feed.epoch = epoch


def fit_arguments(
    train_reader: BatchReader,
    validation_reader: BatchReader,
    output_names,
    epoch: int,
    num_replicas: int = 1,
) -> tuple[dict, list[keras.callbacks.Callback]]:
    """Arguments of `keras.Model.fit` that give it the readers' batches in their order.

    Args:
        train_reader: batches of `epoch`, then of those that follow.
        validation_reader: all its batches after each epoch.
        output_names: the model's outputs; all share one label.
        epoch: where to begin.
        num_replicas: devices that share each batch.

    Returns:
        Keyword arguments, and callbacks that go with them.
    """
    if keras.backend.backend() == "tensorflow":
        from hccr_tf.data.pipeline import tf_dataset

        return {
            "x": tf_dataset(
                train_reader, output_names, epoch=epoch, epochs=None, multiple_of=num_replicas
            ),
            "steps_per_epoch": train_reader.steps_per_epoch,
            "validation_data": tf_dataset(
                validation_reader, output_names, multiple_of=num_replicas
            ),
        }, []
    feed = Feed(train_reader, output_names, epoch)
    return {
        "x": feed,
        "validation_data": Feed(validation_reader, output_names),
    }, [FollowEpoch(feed)]
