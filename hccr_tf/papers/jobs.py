"""Trainings side by side: in processes here, or as tasks of a Ray cluster.

A task that's lost with its machine begins anew on another, from the run's last checkpoint: runs lie
on a disk that all machines see.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from hccr_tf.utils.errors import naming_extra
from hccr_tf.utils.processes import num_cores

_PASSED_ON = ("KERAS_BACKEND", "PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL")
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclass(frozen=True)
class Jobs:
    """Where trainings go on.

    Attributes:
        number: so many at a time in processes here, which share its cores; 1 for this process.
        ray: address of a Ray cluster, whose tasks they are in place of that; "" for the one that
            RAY_ADDRESS names, or a new one here.
        cpus: of a task, where the cluster has no GPU; otherwise a task has a GPU.
    """

    number: int = 1
    ray: str | None = None
    cpus: int = 1

    @contextlib.contextmanager
    def open(self) -> Iterator[Callable[..., Future]]:
        """Yields `Executor.submit` of what runs them; those that haven't ended are given up.

        Raises:
            HccrError: Ray isn't installed.
        """
        if self.ray is not None:
            with naming_extra("ray"):
                import ray
            passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            environment = {"env_vars": passed_on}
            ray.init(self.ray or None, runtime_env=environment, logging_level=logging.WARNING)
            on_gpu = ray.cluster_resources().get("GPU", 0) >= 1
            room = {"num_gpus": 1} if on_gpu else {"num_cpus": self.cpus}
            # Retried without end: what is lost is a machine, not the run's own failure.
            options: dict[str, Any] = {"max_retries": -1, **room}
            try:
                yield lambda call, *given: ray.remote(**options)(call).remote(*given).future()
            finally:
                ray.shutdown()
        elif self.number == 1:
            yield _at_once
        else:
            from loky import ProcessPoolExecutor

            threads = dict.fromkeys(_THREADS, str(max(1, num_cores() // self.number)))
            pool = ProcessPoolExecutor(self.number, env=threads)
            try:
                yield pool.submit
            finally:
                pool.shutdown(kill_workers=True)


def _at_once(call: Callable, *given: Any) -> Future:
    future: Future = Future()
    future.set_result(call(*given))
    return future
