"""One training by several processes ends as one by a single process, and ends together."""

import os
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
    "--augmentation.amount 0.05 --checkpoint-steps 2 --schedule constant --warmup-steps 0"
)


@pytest.fixture
def start(sample_store, tmp_path):
    """A function that starts a training of a folder by so many processes."""

    def start(workdir: Path, number: int, settings: str, devices: int = 1) -> list:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        command = [sys.executable, "-m", "hccr_tf", "train", *SETTINGS.split(), *settings.split()]
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


def wait_for(workdir: Path, text: str, processes: list) -> None:
    while text not in log(workdir, 0):
        assert all(p.poll() is None for p in processes), log(workdir, 0)[-2000:]
        time.sleep(0.05)


def weights(workdir: Path) -> dict[str, np.ndarray]:
    newest = max((workdir / "checkpoints").glob("step-*.safetensors"))
    return load_file(newest)


def assert_equal_runs(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, array in first.items():
        if array.dtype == np.float32:
            scale = max(np.abs(array).max(), 1e-3)
            assert np.abs(array - second[name]).max() < 1e-4 * scale, name
        else:
            np.testing.assert_array_equal(array, second[name])
    a, b = (pd.read_csv(path / "history.csv") for path in (one, other))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_processes_of_several_devices_train_as_one(start, tmp_path):
    pytest.importorskip("jax")
    one, two = tmp_path / "one", tmp_path / "two"
    runs = [start(one, 1, "--epochs 2"), start(two, 2, "--epochs 2", devices=2)]
    for run, workdir in zip(runs, (one, two), strict=True):
        for i, process in enumerate(run):
            assert process.wait() == 0, log(workdir, i)[-3000:]
    assert_equal_runs(one, two)
    # Process 0 alone says and writes something.
    assert len(list((two / "tensorboard").iterdir())) == 1
    assert "best epoch" in log(two, 0) and "best epoch" not in log(two, 1)


def test_one_that_is_killed_ends_all_and_fewer_go_on(start, tmp_path):
    pytest.importorskip("jax")
    workdir, settings = tmp_path / "run", "--epochs 2000 --patience 2000"
    processes = start(workdir, 2, settings, devices=2)
    wait_for(workdir, "epoch 3/", processes)
    processes[1].kill()
    processes[1].wait()
    killed = time.monotonic()
    assert processes[0].wait() == 2
    assert time.monotonic() - killed < 20
    said = log(workdir, 0)
    assert "Another process of this training has ended" in said and "goes on from" in said
    # Another number goes on.
    (process,) = start(workdir, 1, settings)
    wait_for(workdir, "Going on in", [process])
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM, log(workdir, 0)[-3000:]


def test_one_that_is_asked_to_stop_stops_all_at_one_step(start, tmp_path):
    pytest.importorskip("jax")
    workdir = tmp_path / "run"
    processes = start(workdir, 2, "--epochs 2000 --patience 2000", devices=2)
    wait_for(workdir, "epoch 1/2000:", processes)
    processes[1].send_signal(signal.SIGTERM)
    for i, process in enumerate(processes):
        assert process.wait() == 128 + signal.SIGTERM, log(workdir, i)[-3000:]
        assert "The same command goes on there" in log(workdir, i)
