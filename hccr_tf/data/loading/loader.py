"""Batches of a store in an order that is a pure function of (seed, epoch).

Nothing here remembers what was read: `Loader.batch(epoch, step)` gives the same
arrays whenever and wherever it's called. Exact resume, sharding over processes and
reading ahead in threads all follow from that. NumPy only; `pipeline` wraps it for
tf.data.
"""

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.dataset import Dataset
from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.data.loading.reading_processes import ReadingProcesses
from hccr_tf.data.store.splits import draw_per_class
from hccr_tf.utils.errors import HccrError

NUM_CROPS = {"none": 1, "five": 5}
_ALIGNMENT = 64  # bytes; TensorFlow and JAX take arrays that lie so as they are


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

    @property
    def inputs(self) -> np.ndarray:
        """What a network takes."""
        return self.images


class UnpreparedBatch(NamedTuple):
    """One batch of images as they are, for `layers.DevicePreprocessing`.

    Attributes:
        images: uint8 (B, S, S, 1), each at the top left of white.
        sizes: int32 (B, 2), the images' heights and widths in pixels.
        labels, indices: as those of `Batch`.
    """

    images: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    @property
    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """What a network takes."""
        return self.images, self.sizes


class BufferPool:
    """Memory for batches that is used again once nobody holds the batch any more.

    New memory for each batch would cost the page faults of all its bytes, which take
    about as long as a resize of its images. A batch's memory comes back when the last
    array, view or tensor over it is gone, so whoever keeps a batch keeps it unchanged.

    Args:
        num_kept: how many unused pieces of memory are kept.
    """

    def __init__(self, num_kept: int):
        self._free: deque = deque(maxlen=num_kept)  # a deque, as threads share it

    def empty(self, shape: tuple[int, ...], capacity: int) -> np.ndarray:
        """An array of any content whose first byte lies at a multiple of 64.

        Args:
            shape: of the result.
            capacity: bytes of memory to take, at least those of `shape`; equal for all
                batches that shall share memory.

        Returns:
            uint8, C-contiguous.
        """
        try:
            memory = self._free.pop()
        except IndexError:
            memory = _aligned(capacity)
        if len(memory) != capacity:
            memory = _aligned(capacity)
        # Views of `lent` have it as their base, since its own base is no array; so it lives as
        # long as any of them.
        lent = np.frombuffer(memory, np.uint8, int(np.prod(shape)))
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return lent.reshape(shape)


def _aligned(num_bytes: int) -> memoryview:
    memory = np.empty(num_bytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memoryview(memory[start : start + num_bytes])


class _OneOpenCVThread(contextlib.AbstractContextManager):
    """Has OpenCV work in the calling thread while any batch is prepared, then as before.

    Its own threads share out single images; where batches are prepared side by side
    they only wait for one another: a 3×3 blur of 256 pixels takes a third longer.
    OpenCV knows no setting but the process's, so one call at a time would not do.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1

    def __enter__(self):
        import cv2

        with self._lock:
            if not self._inside:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._inside += 1

    def __exit__(self, *_):
        import cv2

        with self._lock:
            self._inside -= 1
            if not self._inside:
                cv2.setNumThreads(self._before)


_one_opencv_thread = _OneOpenCVThread()


def num_reading_threads() -> int:
    """Threads that prepare batches: one for each core that this process may use, 2 to 8.

    More than eight wait for the interpreter's lock more than they work.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    return min(max(cores, 2), 8)


class Loader:
    """Reads one split of a store as prepared batches.

    The last batch of an epoch is smaller where the count doesn't divide, so every
    sample is seen exactly once in each epoch.

    Args:
        store: the store to read.
        split: "train", "validation", "test" or "all".
        preprocessing: how images are prepared.
        batch_size: samples in a batch, over all shards together.
        charset: class order; the store's own if None. Must cover the split.
        shuffle: a new order each epoch; False reads in the store's order.
        seed: of the order, of augmentation and of `per_class`.
        augmentation: random maps for training.
        crops: "none", or "five" for the five crops of prediction.
        shard: (index, count): this process's part of every batch.
        per_class: how many samples of each class are read, drawn by the seed; all if None.
        padded_to: None for prepared images. Otherwise batches are `UnpreparedBatch`es in
            squares of that side, in pixels: of `preprocessing` only the crop to the ink is
            done, and larger images are made smaller, with their aspect kept.

    Raises:
        HccrError: unknown or empty split, a charset that doesn't cover the store, a
            batch that can't be shared by the shards.
    """

    def __init__(
        self,
        store: Dataset,
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
        per_class: int | None = None,
        padded_to: int | None = None,
    ):
        if batch_size < 1:
            raise HccrError(f"batch_size is at least 1, not {batch_size}.")
        if crops not in NUM_CROPS:
            raise HccrError(f"crops is one of {sorted(NUM_CROPS)}, not {crops!r}.")
        if not 0 <= shard[0] < shard[1] <= batch_size:
            raise HccrError(f"shard {shard} is no (index, count) within a batch of {batch_size}.")
        if padded_to is not None:
            if padded_to < 1:
                raise HccrError(f"padded_to is at least 1, not {padded_to}.")
            if augmentation or crops != "none":
                raise HccrError("Images that aren't prepared have no augmentation and no crops.")
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
        self.padded_to = padded_to
        self.indices = store.indices(split)
        self.labels = store.labels_for(self.charset, self.indices)
        if per_class is not None:
            if per_class < 1:
                raise HccrError(f"per_class is at least 1, not {per_class}.")
            drawn = draw_per_class(self.labels, per_class, seed)
            self.indices, self.labels = self.indices[drawn], self.labels[drawn]
        self._order = (None, None)
        self._buffers = BufferPool(num_kept=3 * num_reading_threads())
        self._processes: ReadingProcesses | None = None
        self._num_processes = 0

    def __len__(self) -> int:
        """Number of samples in an epoch."""
        return len(self.indices)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self) // self.batch_size)

    @property
    def workers(self) -> int:
        """Calls of `batch` side by side that keep this machine busy."""
        # While one batch is handed over, its process must have the next one waiting.
        return 2 * self._num_processes or num_reading_threads()

    @contextlib.contextmanager
    def processes(self, number: int | None = None) -> Iterator[None]:
        """Has `batch` work in processes of its own while the context lasts.

        The batches are the same. It pays where images come faster than one interpreter
        takes turns, some ten thousand a second, and after about a second, in which the
        processes start. Linux only.

        Args:
            number: of processes; None for `num_reading_threads`.
        """
        number = number or num_reading_threads()
        processes = ReadingProcesses(
            self.store,
            self.preprocessing,
            min(self.batch_size, len(self)),
            number,
            five_crops=self.crops == "five",
            padded_to=self.padded_to,
        )
        self._processes, self._num_processes = processes, number
        try:
            yield
        finally:
            self._processes, self._num_processes = None, 0
            processes.close()

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

    def batch(self, epoch: int, step: int) -> Batch | UnpreparedBatch:
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
        indices = self.store.at_epoch(self.indices[positions], epoch)
        images, sizes = self._read(indices, affine)
        if sizes is not None:
            return UnpreparedBatch(images, sizes, self.labels[positions], indices)
        return Batch(images, self.labels[positions], indices)

    def batches(
        self, epoch: int = 0, step: int = 0, *, epochs: int | None = 1, workers: int | None = None
    ) -> Iterator[Batch | UnpreparedBatch]:
        """Batches from a step on, prepared ahead in threads.

        Args:
            epoch: epoch to begin in.
            step: step of that epoch to begin at.
            epochs: number of epochs, the begun one counted; None never ends.
            workers: threads; OpenCV works outside the interpreter's lock. None for as many
                as `workers` says.

        Yields:
            `Batch`es in the order of their steps, whatever the number of threads.
        """
        positions = self._positions(epoch, step, epochs)
        workers = workers or self.workers
        with ThreadPoolExecutor(workers, thread_name_prefix="hccr-reader") as pool:
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

    def _read(
        self, indices: np.ndarray, affine: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        processes = self._processes
        if processes is not None and len(indices):
            done = processes.prepare(indices, affine)
            if done is not None:
                return done
        return self._prepare(indices, affine)

    def _prepare(
        self, indices: np.ndarray, affine: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        side = self.padded_to or self.preprocessing.image_size
        num_images = len(indices) * NUM_CROPS[self.crops]
        capacity = min(self.batch_size, len(self)) * NUM_CROPS[self.crops] * side * side
        images = self._buffers.empty((num_images, side, side, 1), capacity)
        originals = self.store.images(indices)
        with _one_opencv_thread:
            if self.padded_to is not None:
                return images, self.preprocessing.pad_many(originals, images)
            if self.crops == "five":
                self.preprocessing.apply_five_crops_many(originals, out=images)
            else:
                self.preprocessing.apply_many(originals, affine=affine, out=images)
        return images, None
