"""One training by several processes ends as one by a single process, and ends together."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from threads import ONE_THREAD

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
# Compiling takes most of the time: less is optimised.
XLA = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# A last batch of 21 is none that two devices share; the network has batch normalisation.
SETTINGS = (
    "convnet --model.width 4 --model.blocks 1 1 1 --image-size 16 --batch-size 64 "
    "--augmentation.amount 0.05 --checkpoint-steps 2 --schedule constant --warmup-steps 0 "
    "--epochs 2"
)


@pytest.fixture
def start(sample_store, tmp_path):
    """A function that starts a training of a folder by so many processes."""

    def start(workdir: Path, number: int, devices: int = 1) -> list:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        command = [sys.executable, "-m", "hccr_tf", "train", *SETTINGS.split()]
        command += ["--data", str(sample_store.path), "--workdir", str(workdir)]
        flags = f"{XLA} --xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, **ONE_THREAD, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags}
        processes = []
        for i in range(number):
            own = f"--coordinator {address} --processes {number} --process {i}".split()
            with open(f"{workdir}-{i}.log", "a") as log:
                said = own if number > 1 else []
                started = subprocess.Popen(command + said, env=environment, stdout=log, stderr=log)
            processes.append(started)
        return processes

    return start


def log(workdir: Path, process: int) -> str:
    return Path(f"{workdir}-{process}.log").read_text()


def newest(workdir: Path) -> Path | None:
    return max((workdir / "checkpoints").glob("step-*.safetensors"), default=None)


def wait_for_checkpoint(workdir: Path, processes: list) -> None:
    # Within an epoch: validation, which is compiled, gives time enough to come before its end.
    before = newest(workdir)
    while newest(workdir) == before:
        assert all(p.poll() is None for p in processes), log(workdir, 0)[-2000:]
        time.sleep(0.02)


def test_processes_that_are_stopped_and_killed_train_as_one(start, tmp_path):
    pytest.importorskip("jax")
    one, several = tmp_path / "one", tmp_path / "several"
    # One that is asked to stop stops all at one step.
    processes = start(several, 2, devices=2)
    wait_for_checkpoint(several, processes)
    processes[1].send_signal(signal.SIGTERM)
    for i, process in enumerate(processes):
        assert process.wait() == 128 + signal.SIGTERM, log(several, i)[-3000:]
        assert "The same command goes on there" in log(several, i)
    # One that is killed ends all, with JAX's words where it's the first.
    processes = start(several, 2, devices=2)
    wait_for_checkpoint(several, processes)
    processes[0].kill()
    processes[0].wait()
    killed = time.monotonic()
    assert processes[1].wait() in (2, -signal.SIGABRT), log(several, 1)[-3000:]
    assert time.monotonic() - killed < 20
    assert re.search("Another process .* has ended|another task died", log(several, 1))
    # Process 0 alone says and writes something.
    assert len(list((several / "tensorboard").iterdir())) == 2
    assert "parameters" in log(several, 0) and "parameters" not in log(several, 1)
    # Another number goes on, and ends as one that was alone.
    runs = {one: start(one, 1)[0], several: start(several, 1)[0]}
    for workdir, process in runs.items():
        assert process.wait() == 0, log(workdir, 0)[-3000:]
    assert "Going on in" in log(several, 0)
    first, second = load_file(newest(one)), load_file(newest(several))
    assert first.keys() == second.keys()
    for name, array in first.items():
        if array.dtype == np.float32:
            scale = max(np.abs(array).max(), 1e-3)
            assert np.abs(array - second[name]).max() < 1e-4 * scale, name
        else:
            np.testing.assert_array_equal(array, second[name])
    a, b = (pd.read_csv(path / "history.csv") for path in (one, several))
    np.testing.assert_allclose(a, b, atol=1e-4)
