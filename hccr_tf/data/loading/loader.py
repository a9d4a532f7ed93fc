"""Batches of a dataset in an order that is a pure function of (seed, epoch).

Nothing here remembers what was read: `Loader.batch(epoch, step)` gives the same
arrays whenever and wherever it's called. Exact resume, sharding over processes and
reading ahead in threads all follow from that. NumPy only; `tf_dataset` wraps it for tf.data.
"""

import contextlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.dataset import Dataset
from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.preprocessing import VIEWS, Preprocessing
from hccr_tf.data.opening import open_dataset
from hccr_tf.data.store.splits import draw_per_class
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.processes import ignore_signals, num_cores


class Batch(NamedTuple):
    """One batch.

    Attributes:
        images: uint8 (B, H, W, 1); with test-time augmentation (B * views, H, W, 1), a sample's
            views one after another.
        labels: int32 (B,), classes of the loader's charset.
        indices: int64 (B,), positions in the dataset; `Dataset.sample_ids` names them.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


def num_reading_threads() -> int:
    """One a core, 2 to 8: more wait for the interpreter's lock more than they work."""
    return min(max(num_cores(), 2), 8)


class Loader:
    """Reads one split of a dataset as prepared batches.

    The last batch of an epoch is smaller where the count doesn't divide, so every
    sample is seen exactly once in each epoch.

    Args:
        dataset: the images to read.
        split: "train", "validation", "test" or "all".
        preprocessing: how images are prepared.
        batch_size: samples in a batch, over all processes together.
        charset: class order; the dataset's own if None. Must cover the split.
        shuffle: a new order each epoch; False reads in the dataset's order.
        seed: of the order, of augmentation and of `per_class`.
        augmentation: random maps for training.
        tta: test-time augmentation, as for `Preprocessing`; "none" reads each image once.
        per_class: how many samples of each class are read, drawn by the seed; all if None.
        passes: how often an epoch reads each sample, each time in another order.

    Raises:
        HccrError: unknown or empty split, or a charset that doesn't cover the dataset.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        charset: Charset | None = None,
        shuffle: bool = False,
        seed: int = 0,
        augmentation: RandomAffine | None = None,
        tta: str = "none",
        per_class: int | None = None,
        passes: int = 1,
    ):
        if batch_size < 1:
            raise HccrError(f"batch_size is at least 1, not {batch_size}.")
        if tta not in VIEWS:
            raise HccrError(f"tta is one of {', '.join(VIEWS)}; not {tta!r}.")
        self.dataset = dataset
        self.split = split
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.charset = charset or dataset.charset
        self.shuffle = shuffle
        self.seed = seed
        self.augmentation = augmentation
        self.tta = tta
        self.passes = passes
        self.indices = dataset.indices(split)
        self.labels = dataset.labels_for(self.charset, self.indices)
        if per_class is not None:
            if per_class < 1:
                raise HccrError(f"per_class is at least 1, not {per_class}.")
            drawn = draw_per_class(self.labels, per_class, seed)
            self.indices, self.labels = self.indices[drawn], self.labels[drawn]
        self._order = (-1, np.empty(0, np.int64))
        self.workers = num_reading_threads()
        self._pool: Executor | None = None
        # Threads of OpenCV's own share out single images; where batches are prepared side by side
        # they only wait for one another: a 3x3 blur of 256 pixels takes a third longer.
        cv2.setNumThreads(1)

    def __len__(self) -> int:
        """Returns the number of samples in an epoch."""
        return len(self.indices)

    @property
    def steps_per_epoch(self) -> int:
        """Returns the number of batches in an epoch."""
        return -(-len(self) * self.passes // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Returns positions into `indices` in the order in which `epoch` reads them.

        int64 (N * passes,).
        """
        if not self.shuffle:
            return np.tile(np.arange(len(self)), self.passes)
        # Kept for the running epoch only: a permutation of millions isn't free. Replaced
        # in one assignment, so threads see either epoch's order but never half of one.
        kept_epoch, order = self._order
        if kept_epoch != epoch:
            rounds = range(epoch * self.passes, (epoch + 1) * self.passes)
            draws = [np.random.default_rng((self.seed, number, 0)) for number in rounds]
            order = np.concatenate([draw.permutation(len(self)) for draw in draws])
            self._order = (epoch, order)
        return order

    def batch(self, epoch: int, step: int, shard: tuple[int, int] = (0, 1)) -> Batch:
        """Returns the batch of that step: the same arrays at every call.

        Of a `shard`, (index, count), it's the index-th part of its rows, of an equal number for
        each; the last batch of an epoch may have fewer, or none, for the last ones.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"An epoch has {self.steps_per_epoch} steps; there is no {step}.")
        start = step * self.batch_size
        positions = self.order(epoch)[start : start + self.batch_size]
        index, count = shard
        rows = self.batch_size // count
        part = slice(index * rows, (index + 1) * rows)
        affine = None
        if self.augmentation:
            # Drawn for the whole batch, then shared out: shards change nothing.
            affine = self.augmentation.draw(self.seed, epoch, step, len(positions))[part]
        positions = positions[part]
        indices = self.dataset.at_epoch(self.indices[positions], epoch)
        return Batch(self._prepare(indices, affine), self.labels[positions], indices)

    def batches(
        self,
        epoch: int = 0,
        step: int = 0,
        *,
        epochs: int | None = 1,
        workers: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Yields batches in the order of their steps, prepared ahead in threads.

        Args:
            epoch: epoch to begin in.
            step: step of that epoch to begin at.
            epochs: number of epochs, the begun one counted; None never ends.
            workers: threads; None for as many as keep this machine busy.
            shard: the part of each that is read, as in `batch`.
        """
        workers, steps = workers or self.workers, self.steps_per_epoch
        numbers: Iterable[int] = itertools.count(epoch * steps + step)
        if epochs is not None:
            numbers = range(epoch * steps + step, (epoch + epochs) * steps)
        with ThreadPoolExecutor(workers, thread_name_prefix="hccr-loader") as pool:
            ahead: deque = deque()
            try:
                for number in numbers:
                    ahead.append(pool.submit(self.batch, *divmod(number, steps), shard))
                    if len(ahead) > 2 * workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    @contextlib.contextmanager
    def processes(self, number: int | None = None) -> Iterator[None]:
        """Has the same batches prepared in processes, one a core, while the context lasts.

        It pays where images are drawn in Python, which threads do one after another.
        """
        from loky import ProcessPoolExecutor  # here, as stores of images do without

        number = number or num_cores()
        # Idle processes end by themselves, also when this one was killed. Training needs batches
        # until it has saved, whatever signal it was sent.
        pool = ProcessPoolExecutor(number, timeout=60, initializer=ignore_signals)
        self._pool, self.workers = pool, number + 2
        try:
            yield
        finally:
            pool.shutdown(kill_workers=True)
            self._pool, self.workers = None, num_reading_threads()

    def _prepare(self, indices: np.ndarray, affine: np.ndarray | None) -> np.ndarray:
        task = (self.preprocessing, self.tta, indices, affine)
        if self._pool is not None:
            return self._pool.submit(_prepare, self.dataset.path, *task).result()
        return _prepare(self.dataset, *task)


def _prepare(
    dataset: Dataset | Path, preprocessing: Preprocessing, tta: str, indices: np.ndarray, affine
) -> np.ndarray:
    if isinstance(dataset, Path):  # in a process of the pool
        dataset = _opened(dataset)
    images = dataset.images(indices)
    if tta != "none":
        return preprocessing.apply_views(images, tta)
    return preprocessing.apply_many(images, affine=affine)


_opened = lru_cache(maxsize=2)(open_dataset)
