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
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np

from hccr_tf.data.loading.loader import Loader
from hccr_tf.utils.errors import HccrError


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
    try:
        jax.distributed.initialize(coordinator, number, index)
    except (ValueError, RuntimeError) as error:
        raise HccrError(
            f"The processes of this training don't find each other ({error}). Start it by srun or "
            "mpirun, or name --coordinator HOST:PORT, --processes and --process."
        ) from error
    if not leads():
        logging.getLogger("hccr_tf").setLevel(logging.WARNING)


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
    digest = hashlib.sha256(repr(what).encode()).digest()
    if len(np.unique(_gathered(np.frombuffer(digest, np.uint8)), axis=0)) > 1:
        raise HccrError(
            "The processes of this training have different settings, data or checkpoints. Give "
            "all of them one command, and a --data and a --workdir that all of them see."
        )


@contextlib.contextmanager
def parallel(batch_size: int) -> Iterator[None]:
    """Lays variables and batches out over all devices of JAX, if there are several.

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
        yield
        return
    with keras.distribution.DataParallel(auto_shard_dataset=False).scope():
        yield


def drop_filling(model: keras.Model, train: Loader, validation: Loader) -> None:
    """Has the steps of a model leave out the rows with which a last batch is filled up.

    JAX shares out arrays in equal parts only; within a step, parts may be unequal. Labels of a
    batch that is filled up are a column (B, 1), so a step is traced anew for it.
    """
    for name, loader in (("train_step", train), ("test_step", validation)):
        rows = len(loader) * loader.passes % loader.batch_size
        setattr(model, name, _without_filling(getattr(model, name), rows))


def _without_filling(step, rows: int):
    def without_filling(state, data):
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        if next(iter(labels.values())).ndim == 2:
            images = images[:rows]
            labels = {output: column[:rows, 0] for output, column in labels.items()}
        return step(state, (images, labels))

    return without_filling


@contextlib.contextmanager
def ending_together(newest: Callable[[], Path | None]) -> Iterator[None]:
    """Ends this process at once where it fails, and says so where another did.

    JAX would wait for the others at its end, and they for this one. `newest` finds the checkpoint.

    Raises:
        HccrError: one of several processes is gone.
    """
    if shard()[1] == 1:
        yield
        return
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        atexit.register(_end, 2)
        raise HccrError(
            f"Another process of this training has ended ({str(error).splitlines()[0]}), so all "
            f"end. The same command goes on from {newest() or 'the beginning'}."
        ) from error
    except Exception as error:
        atexit.register(_end, 2 if isinstance(error, HccrError | OSError) else 1)
        raise


def _end(exit_code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _gathered(array: np.ndarray) -> np.ndarray:
    """Returns every process's array, one a row."""
    if shard()[1] == 1:
        return array[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))
