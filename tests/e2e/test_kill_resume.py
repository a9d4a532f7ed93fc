"""A run that is killed again and again ends as one that was never killed, bit for bit.

Both train a small brick network in deterministic mode. One is killed with SIGKILL at random
moments, every third time within the writing of a checkpoint, and started by the same command each
time. Weights, optimiser, metrics and `history.csv` must be equal.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from threads import ONE_THREAD

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SETTINGS = (
    "--image-size 24 --model.num_bricks 2 --model.width 16 --batch-size 16 --seed 3 "
    "--augmentation.amount 0.05 --deterministic --checkpoint-steps 3"
)


@pytest.fixture
def start(sample_store, tmp_path):
    """A function that starts training in a folder on a backend."""
    # As many threads as users have: the order in which they end must change nothing.
    environment = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}

    def start(workdir: Path, backend: str, epochs: int) -> subprocess.Popen:
        command: list = [
            sys.executable,
            "-m",
            "hccr_tf",
            "train",
            "brick_model1",
            *SETTINGS.split(),
        ]
        command += ["--data", sample_store.path, "--workdir", workdir, "--epochs", epochs]
        with open(tmp_path / f"{workdir.name}.log", "a") as log:
            return subprocess.Popen(
                [str(part) for part in command],
                env={**environment, "KERAS_BACKEND": backend},
                stdout=log,
                stderr=log,
            )

    return start


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step-*.safetensors"))


def is_saving(run: Path) -> bool:
    """Whether a checkpoint is being written at this moment."""
    return any((run / "checkpoints").glob(".step-*.partial-*"))


def kill_in_time(process: subprocess.Popen, run: Path, draw: random.Random, in_save: bool) -> None:
    """Kills a run once it has trained a little."""
    known = checkpoints(run)[-1:]
    # Starting takes seconds; killed before its first new checkpoint, a run would go nowhere.
    while process.poll() is None and checkpoints(run)[-1:] == known:
        time.sleep(0.005)
    moment = time.monotonic() + draw.uniform(0, 1.0)
    while process.poll() is None:
        if is_saving(run) if in_save else time.monotonic() > moment:
            break
        if not in_save:
            time.sleep(0.001)
    assert process.poll() is None, "it ended before it was killed often enough"
    process.kill()
    process.wait()


# HCCR_KILLS=20 kills so often; each takes a start of the framework.
KILLS, ON_JAX = (int(os.environ.get("HCCR_KILLS", number)) for number in (2, 1))


@pytest.mark.timeout(300 + 60 * max(KILLS, ON_JAX))
@pytest.mark.parametrize(
    ("backend", "kills"),
    [("tensorflow", KILLS), pytest.param("jax", ON_JAX, marks=pytest.mark.parity)],
)
def test_killed_runs_end_as_one_that_was_not(backend, kills, start, tmp_path):
    pytest.importorskip(backend)
    draw, epochs = random.Random(0), 3 + kills
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    beside, process = start(whole, backend, epochs), start(killed, backend, epochs)
    for kill in range(kills):
        kill_in_time(process, killed, draw, kill % 3 == 0)
        process = start(killed, backend, epochs)
    assert process.wait() == 0, (tmp_path / "killed.log").read_text()[-3000:]
    assert beside.wait() == 0, (tmp_path / "whole.log").read_text()[-3000:]
    assert (whole / "history.csv").read_bytes() == (killed / "history.csv").read_bytes()
    last = checkpoints(whole)[-1].relative_to(whole)
    assert checkpoints(killed)[-1].relative_to(killed) == last
    for name in ("best.safetensors", "prediction.safetensors", last):
        arrays, others = load_file(whole / name), load_file(killed / name)
        assert {n: a.tobytes() for n, a in arrays.items()} == {
            n: a.tobytes() for n, a in others.items()
        }
