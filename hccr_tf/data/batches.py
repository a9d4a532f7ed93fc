"""Batches of a store in an order that is a pure function of (seed, epoch).

Nothing here remembers what was read: `BatchReader.batch(epoch, step)` gives the same
arrays whenever and wherever it's called. Exact resume, sharding over processes and
reading ahead in threads all follow from that. NumPy only; `pipeline` wraps it for
tf.data.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.augmentation import RandomAffine
from hccr_tf.data.preprocessing import Preprocessing
from hccr_tf.data.store import Store

NUM_CROPS = {"none": 1, "five": 5}


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """int64 (num_samples,): the permutation of one epoch."""
    return np.random.default_rng((seed, epoch, 0)).permutation(num_samples)


class Batch(NamedTuple):
    """One batch.

    Attributes:
        images: uint8 (B, H, W, 1); with five crops (B * 5, H, W, 1), a sample's crops
            one after another.
        labels: int32 (B,), classes of the reader's charset.
        indices: int64 (B,), positions in the store; `Store.sample_ids` names them.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


class BatchReader:
    """Reads one split of a store as prepared batches.

    The last batch of an epoch is smaller where the count doesn't divide, so every
    sample is seen exactly once in each epoch.

    Args:
        store: the store to read.
        split: "train", "validation", "test" or "all".
        preprocessing: how pictures are prepared.
        batch_size: samples in a batch, over all shards together.
        charset: class order; the store's own if None. Must cover the split.
        shuffle: a new order each epoch; False reads in the store's order.
        seed: of the order and of augmentation.
        augmentation: random maps for training.
        crops: "none", or "five" for the five crops of prediction.
        shard: (index, count): this process's part of every batch.

    Raises:
        ValueError: unknown or empty split, a charset that doesn't cover the store, a
            batch that can't be shared by the shards.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        charset: Charset | None = None,
        shuffle: bool = False,
        seed: int = 0,
        augmentation: RandomAffine | None = None,
        crops: str = "none",
        shard: tuple[int, int] = (0, 1),
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}.")
        if crops not in NUM_CROPS:
            raise ValueError(f"crops is one of {sorted(NUM_CROPS)}, not {crops!r}.")
        if not 0 <= shard[0] < shard[1] <= batch_size:
            raise ValueError(f"shard {shard} is no (index, count) within a batch of {batch_size}.")
        self.store = store
        self.split = split
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.charset = charset or store.charset
        self.shuffle = shuffle
        self.seed = seed
        self.augmentation = augmentation
        self.crops = crops
        self.shard = shard
        self.indices = store.indices(split)
        self.labels = store.labels_for(self.charset, self.indices)
        self._order = (None, None)

    def __len__(self) -> int:
        """Number of samples in an epoch."""
        return len(self.indices)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self) // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """int64 (N,): positions into `indices` in the order in which `epoch` reads them."""
        if not self.shuffle:
            return np.arange(len(self))
        # Kept for the running epoch only: a permutation of millions isn't free. Replaced
        # in one assignment, so threads see either epoch's order but never half of one.
        kept_epoch, order = self._order
        if kept_epoch != epoch:
            order = epoch_order(len(self), self.seed, epoch)
            self._order = (epoch, order)
        return order

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch of that step: the same arrays at every call."""
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"An epoch has {self.steps_per_epoch} steps; there is no {step}.")
        start = step * self.batch_size
        positions = self.order(epoch)[start : start + self.batch_size]
        index, count = self.shard
        affine = None
        if self.augmentation:
            # Drawn for the whole batch, then shared out: shards change nothing.
            affine = self.augmentation.draw(self.seed, epoch, step, len(positions))[index::count]
        positions = positions[index::count]
        indices = self.indices[positions]
        return Batch(self._images(indices, affine), self.labels[positions], indices)

    def batches(
        self, epoch: int = 0, step: int = 0, *, epochs: int | None = 1, workers: int = 2
    ) -> Iterator[Batch]:
        """Batches from a step on, prepared ahead in threads.

        Args:
            epoch: epoch to begin in.
            step: step of that epoch to begin at.
            epochs: number of epochs, the begun one counted; None never ends.
            workers: threads; OpenCV works outside the interpreter's lock.

        Yields:
            `Batch`es in the order of their steps, whatever the number of threads.
        """
        positions = self._positions(epoch, step, epochs)
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="hccr-reader") as pool:
            ahead: deque = deque()
            try:
                for position in positions:
                    ahead.append(pool.submit(self.batch, *position))
                    if len(ahead) > 2 * workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def _positions(self, epoch, step, epochs) -> Iterator[tuple[int, int]]:
        end = None if epochs is None else epoch + epochs
        while end is None or epoch < end:
            for s in range(step, self.steps_per_epoch):
                yield epoch, s
            epoch, step = epoch + 1, 0

    def _images(self, indices: np.ndarray, affine: np.ndarray | None) -> np.ndarray:
        crops = NUM_CROPS[self.crops]
        images = np.empty((len(indices), crops, *self.preprocessing.image_shape), np.uint8)
        for i, index in enumerate(indices):
            picture = self.store.image(index)
            if self.crops == "five":
                images[i] = self.preprocessing.apply_five_crops(picture)
            else:
                images[i, 0] = self.preprocessing.apply(
                    picture, affine=None if affine is None else affine[i]
                )
        return images.reshape(-1, *self.preprocessing.image_shape)
