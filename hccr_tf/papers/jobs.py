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

Submit = Callable[..., Future]
"""Has a function called with arguments, elsewhere; as `Executor.submit`."""
_PASSED_ON = ("KERAS_BACKEND", "PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL")


@dataclass(frozen=True)
class Jobs:
    """Where several trainings go on at a time.

    Attributes:
        number: so many of them in processes here, which share its cores; 1 for none but this one.
        ray: whether they're tasks of a Ray cluster, as many as it has room for.
        address: the cluster's; none for the one that RAY_ADDRESS names, or a new one here.
        cpus: of a task, where the cluster has no GPU; otherwise a task has a GPU.
    """

    number: int = 1
    ray: bool = False
    address: str | None = None
    cpus: int = 1

    @contextlib.contextmanager
    def open(self) -> Iterator[Submit]:
        """Yields what submits tasks; those that have not ended are given up at the end.

        Raises:
            HccrError: Ray isn't installed.
        """
        if not self.ray:
            from loky import ProcessPoolExecutor

            names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
            threads = dict.fromkeys(names, str(max(1, num_cores() // self.number)))
            pool = ProcessPoolExecutor(self.number, env=threads)
            try:
                yield pool.submit
            finally:
                pool.shutdown(kill_workers=True)
            return
        with naming_extra("ray"):
            import ray
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        ray.init(self.address, runtime_env={"env_vars": environment}, logging_level=logging.WARNING)
        on_gpu = ray.cluster_resources().get("GPU", 0) >= 1
        room: dict[str, Any] = {"num_gpus": 1} if on_gpu else {"num_cpus": self.cpus}

        def submit(function: Callable, *arguments) -> Future:
            # Without end: what is lost is a machine, not the run's own failure.
            task = ray.remote(max_retries=-1, **room)(function)
            return task.remote(*arguments).future()

        try:
            yield submit
        finally:
            ray.shutdown()
