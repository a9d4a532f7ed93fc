"""Runs that are killed, asked to stop, or begun twice: with the commands themselves."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from threads import ONE_THREAD

from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.checkpoints import Checkpoints
from hccr_tf.utils.files import exclusive_lock

REPO = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
# As many threads as users have: the order in which they end must change nothing.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_killed_runs_end_as_one_that_was_not(backend):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "benchmarks/kill_resume.py", "--kills", "1", "--epochs", "3"],
        cwd=REPO,
        env={**ENVIRONMENT, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    last = done.stdout.strip().splitlines()[-1]
    assert last == "PASSED: weights, optimiser, metrics and history.csv are equal bit for bit"
    assert "1 kills" in done.stdout


def start(store, workdir, *arguments):
    command = [
        sys.executable,
        "-m",
        "hccr_tf",
        "train",
        "kriuk_model1",
        "--data",
        str(store.path),
        "--workdir",
        str(workdir),
        "--image-size",
        "16",
        "--model.num_bricks",
        "2",
        "--model.width",
        "16",
        "--batch-size",
        "8",
        "--checkpoint-minutes",
        "1000",
        *arguments,
    ]
    return subprocess.Popen(
        command,
        cwd=REPO,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_an_epoch(process, workdir):
    while not (workdir / "history.csv").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(0.3)  # Into the next one.


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_asked_to_stop_it_saves_and_says_how_to_go_on(sample_store, tmp_path, number, code):
    run = tmp_path / "run"
    process = start(sample_store, run, "--epochs", "500", "--patience", "500")
    wait_for_an_epoch(process, run)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    said = re.search(
        r"Stopped in epoch (\d+) after (\d+) of its (\d+) steps, saved in (\S+)\. The "
        r"same command goes on there",
        errors,
    )
    assert said, errors
    epoch, step, steps = (int(said[i]) for i in (1, 2, 3))
    newest = Checkpoints(Workdir(run).checkpoints).paths()[0]
    # Nothing is lost: the checkpoint is that of the very step.
    assert said[4] == str(newest)
    assert newest.name == f"step-{(epoch - 1) * steps + step:09d}.h5"
    if number == signal.SIGINT:
        return
    with exclusive_lock(run / "lock", "busy"):
        _, errors = (busy := start(sample_store, run)).communicate()
    assert busy.returncode == 2
    assert "another process trains in" in errors
    process = start(sample_store, run, "--epochs", str(epoch + 1), "--patience", "500")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"Going on in {run} from epoch" in output
    history = pd.read_csv(run / "history.csv")
    assert history["step"].tolist() == [steps * (i + 1) for i in range(epoch + 1)]


def test_two_deterministic_runs_are_equal_to_the_bit(sample_store, tmp_path):
    for name in ("a", "b"):
        process = start(sample_store, tmp_path / name, "--epochs", "2", "--deterministic")
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    histories = [(tmp_path / name / "history.csv").read_bytes() for name in "ab"]
    assert histories[0] == histories[1]
    files = [(tmp_path / name / "best.weights.h5") for name in "ab"]
    import h5py

    with h5py.File(files[0]) as a, h5py.File(files[1]) as b:
        assert a.attrs["sha256"] == b.attrs["sha256"]


def test_best_weights_that_a_kill_prevented_are_written_on_going_on(sample_store, tmp_path):
    run = tmp_path / "run"
    start(sample_store, run, "--epochs", "1").communicate()
    for name in ("best.weights.h5", "prediction.weights.h5", "history.csv"):
        (run / name).unlink()
    Workdir(run).update_run(state="running")
    process = start(sample_store, run, "--epochs", "1")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    for name in ("best.weights.h5", "prediction.weights.h5", "history.csv"):
        assert (run / name).exists()
    assert Workdir(run).read_run()["state"] == "finished"
