"""One training by several processes or on several devices of JAX, as if there were one.

Every process runs the whole program and reads its rows of every batch; Keras's `DataParallel` lays
them out over all devices, and what XLA makes of a step adds gradients, and the sums of batch
normalisation, over the whole batch. Process 0 writes. Whatever a process decides by its clock or by
a signal, all must decide alike, or some would wait for others for ever: they ask `largest`.
"""

import atexit
import contextlib
import hashlib
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import keras
import numpy as np

from hccr_tf.data.loading.loader import Loader
from hccr_tf.utils.errors import HccrError

_PATIENCE = 270  # seconds that processes wait for each other; after 300 JAX aborts


def join(
    coordinator: str | None = None, number: int | None = None, index: int | None = None
) -> None:
    """Joins this process to the others of a training; before anything else is asked of JAX.

    Args:
        coordinator: HOST:PORT of process 0, which the others reach; found by JAX in what Slurm,
            Open MPI or Kubernetes say of the job if None, as are the next two.
        number: of all processes.
        index: of this one, from 0.

    Raises:
        HccrError: Keras doesn't run on JAX, or the others can't be found.
    """
    if keras.backend.backend() != "jax":
        raise HccrError("Several processes train on JAX: set KERAS_BACKEND=jax.")
    import jax

    # Its handler of SIGTERM would end the process before training has saved.
    jax.config.update("jax_enable_preemption_service", False)
    waiting = threading.Timer(_PATIENCE, _give_up)
    waiting.start()
    try:
        jax.distributed.initialize(coordinator, number, index)
    except (ValueError, RuntimeError) as error:
        raise HccrError(
            f"The processes of this training don't find each other ({error}). Start it by srun or "
            "mpirun, or name --coordinator HOST:PORT, --processes and --process."
        ) from error
    finally:
        waiting.cancel()
    if not leads():
        logging.getLogger("hccr_tf").setLevel(logging.WARNING)


def _give_up() -> None:
    print(
        f"error: The processes of this training haven't all come within {_PATIENCE} seconds. Start "
        "all of them, with a --coordinator that all reach.",
        file=sys.stderr,
    )
    os._exit(2)


def shard() -> tuple[int, int]:
    """Returns (index, count) of this process among those that train together."""
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def leads() -> bool:
    """Returns whether this is the process that writes."""
    return shard()[0] == 0


def largest(number: int) -> int:
    """Returns the largest of the processes' numbers; each of them has to ask."""
    return int(_gathered(np.array(number)).max())


def check_alike(*what: object) -> None:
    """Refuses processes that would train something else, or go on elsewhere, than the others.

    Raises:
        HccrError: what they have isn't the same.
    """
    digest = np.frombuffer(hashlib.sha256(repr(what).encode()).digest(), np.uint8)
    if (_gathered(digest) != digest).any():
        raise HccrError(
            "The processes of this training have different settings, data or checkpoints. Give "
            "all of them one command, and a --data and a --workdir that all of them see."
        )


def parallel(batch_size: int) -> contextlib.AbstractContextManager:
    """Returns a context that lays variables and batches out over all of JAX's devices, if several.

    Raises:
        HccrError: the devices can't share a batch.
    """
    number = 1 if keras.backend.backend() != "jax" else len(keras.distribution.list_devices())
    if batch_size % number:
        raise HccrError(
            f"{number} devices share each batch of {batch_size}; take a --batch-size that is a "
            f"multiple of {number}, such as {-(-batch_size // number) * number}."
        )
    if number == 1:
        return contextlib.nullcontext()
    return keras.distribution.DataParallel(auto_shard_dataset=False).scope()


def drop_filling(model: keras.Model, train: Loader, validation: Loader) -> None:
    """Has the steps of a model leave out the rows with which a last batch is filled up.

    JAX shares out arrays in equal parts only; within a step, parts may be unequal. Labels of a
    batch that is filled up are a column (B, 1), so a step is traced anew for it.
    """
    for name, loader in (("train_step", train), ("test_step", validation)):
        rows = len(loader) * loader.passes % loader.batch_size
        setattr(model, name, partial(_without_filling, getattr(model, name), rows))


def _without_filling(step, rows: int, state, data):
    images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
    if next(iter(labels.values())).ndim == 2:
        images = images[:rows]
        labels = {output: column[:rows, 0] for output, column in labels.items()}
    return step(state, (images, labels))


@contextlib.contextmanager
def ending_together(kept: Callable[[], list[Path]]) -> Iterator[None]:
    """Ends this process at once where it fails, and says so where another did.

    JAX would wait for the others at its end, and they for this one. `kept` lists checkpoints, the
    newest first.

    Raises:
        HccrError: one of several processes is gone.
    """
    try:
        yield
    except Exception as error:
        if shard()[1] == 1:
            raise
        # XLA's errors are of several types; what they say begins with a kind, such as UNKNOWN.
        lost = re.match("[A-Z_]+: ", str(error))
        atexit.register(os._exit, 2 if lost or isinstance(error, HccrError | OSError) else 1)
        atexit.register(sys.stdout.flush)  # before that
        if not lost:
            raise
        raise HccrError(
            f"Another process of this training has ended ({str(error).splitlines()[0]}), so all "
            f"end. The same command goes on from {[*kept(), 'the beginning'][0]}."
        ) from error


def _gathered(array: np.ndarray) -> np.ndarray:
    """Returns every process's array, one a row."""
    if shard()[1] == 1:
        return array[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))
