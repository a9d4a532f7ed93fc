"""Runs side by side, in processes and on a Ray cluster, end as one by one."""

import os
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from tensorflow.python.framework.config import disable_op_determinism

from hccr_tf import get_recipe
from hccr_tf.papers.jobs import Jobs
from hccr_tf.papers.sweep import sweep
from hccr_tf.training.checkpoints import CheckpointInterval
from hccr_tf.training.trainer import Trainer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
GRID = {"seed": (1, 2)}


@pytest.fixture
def swept(sample_store, tmp_path, monkeypatch):
    """A function that sweeps two seeds of a small network, and returns the table."""
    recipe = get_recipe("convnet").override(
        {"model.width": 4, "model.blocks": (1, 1, 1), "image_size": 16, "epochs": 4}
    )
    recipe = recipe.override(patience=4, batch_size=32, deterministic=True)

    def run(name: str, jobs: Jobs | None = None) -> pd.DataFrame:
        often = CheckpointInterval(steps=2)
        table = sweep(recipe, GRID, sample_store, tmp_path / name, jobs=jobs, checkpoints=often)
        return table.drop(columns="train_minutes")

    monkeypatch.setattr(Trainer, "_has_clock", True)
    yield run
    disable_op_determinism()  # of this process's other tests


def ray_tasks() -> list[int]:
    """The processes that a task of this user's Ray runs in, by their title."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_train_cell"):
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def test_runs_side_by_side_end_as_one_by_one(swept, tmp_path, monkeypatch):
    here = swept("here")
    pd.testing.assert_frame_equal(here, swept("beside", Jobs(number=2)))
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Of its own Ray would give others the way, and on busy cores never end.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = cluster_utils.Cluster()
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    killed: list[int] = []

    def kill() -> None:
        # The first that has saved within its second epoch.
        while not killed:
            time.sleep(0.05)
            saved = [*(tmp_path / "there").glob("seed=1/checkpoints/step-*")]
            if len(saved) == 2 and len(tasks := ray_tasks()) == 2:
                os.kill(tasks[0], signal.SIGKILL)
                killed.append(tasks[0])

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        there = swept("there", Jobs(ray=cluster.address))
    finally:
        cluster.shutdown()
    assert killed
    pd.testing.assert_frame_equal(here, there)
