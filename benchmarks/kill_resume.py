"""Kills a training run again and again and compares it with one that was never killed.

    .venv/bin/python benchmarks/kill_resume.py --kills 20
    KERAS_BACKEND=jax .venv/bin/python benchmarks/kill_resume.py --kills 20

Trains a small brick network on the embedded sample in deterministic mode, once without a break
and once killed with SIGKILL at random moments, every third time within the writing of a
checkpoint, and started again by the same command each time. Weights, optimiser, metrics and
`history.csv` of the two must be equal bit for bit. The verdict is the last line; the exit code is
1 if they differ.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py

SETTINGS = (
    "--image-size",
    "24",
    "--model.num_bricks",
    "2",
    "--model.width",
    "16",
    "--batch-size",
    "16",
    "--augmentation.amount",
    "0.05",
    "--deterministic",
    "--seed",
    "3",
)


def prepare(folder: Path) -> Path:
    run(
        "data",
        "sample",
        "--out",
        folder / "sample",
        "--writers",
        "12",
        "--test-writers",
        "4",
        "--per-writer",
        "2",
        "--size",
        "32",
    )
    run("data", "prepare", folder / "sample", "--out", folder / "store")
    return folder / "store"


def run(*arguments: object) -> None:
    command = [sys.executable, "-m", "hccr_tf", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def start(store: Path, workdir: Path, epochs: int) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "hccr_tf",
        "train",
        "brick_model1",
        "--data",
        str(store),
        "--workdir",
        str(workdir),
        "--epochs",
        str(epochs),
        "--checkpoint-steps",
        "3",
        *SETTINGS,
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )


def is_saving(workdir: Path) -> bool:
    """Whether a checkpoint is being written at this moment."""
    return any((workdir / "checkpoints").glob(".step-*.partial-*"))


def kill_in_time(process: subprocess.Popen, workdir: Path, draw: random.Random, in_save: bool):
    """Kills a run once it has trained a little; returns where it was, or None if it ended."""
    known = {p.name for p in (workdir / "checkpoints").glob("step-*.h5")}
    # Starting takes seconds; killed before its first new checkpoint, a run would go nowhere.
    while process.poll() is None:
        now = {p.name for p in (workdir / "checkpoints").glob("step-*.h5")}
        if now - known:
            break
        time.sleep(0.005)
    moment = time.monotonic() + draw.uniform(0, 1.0)
    while process.poll() is None:
        if is_saving(workdir) if in_save else time.monotonic() > moment:
            break
        if not in_save:
            time.sleep(0.001)
    if process.poll() is not None:
        return None
    process.send_signal(signal.SIGKILL)
    process.wait()
    newest = sorted(p.name for p in (workdir / "checkpoints").glob("step-*.h5"))
    partial = " within a save" if is_saving(workdir) else ""
    return f"{newest[-1] if newest else 'no checkpoint'}{partial}"


def differences(whole: Path, killed: Path) -> list[str]:
    found = []
    if (whole / "history.csv").read_bytes() != (killed / "history.csv").read_bytes():
        found.append("history.csv")
    names = ["best.weights.h5", "prediction.weights.h5"]
    last = [max((run / "checkpoints").glob("step-*.h5"), default=None) for run in (whole, killed)]
    if None in last or last[0].name != last[1].name:
        found.append("the last checkpoint's step")
    else:
        names.append(f"checkpoints/{last[0].name}")
    for name in names:
        with h5py.File(whole / name) as a, h5py.File(killed / name) as b:
            found += [f"{name}: {item}" for item in compare(a, b)]
    return found


def compare(a: h5py.File, b: h5py.File) -> list[str]:
    arrays: list[dict] = [{}, {}]
    for file, into in ((a, arrays[0]), (b, arrays[1])):
        file.visititems(
            lambda name, item, into=into: (
                into.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    names = sorted(set(arrays[0]) | set(arrays[1]))
    return [name for name in names if arrays[0].get(name) != arrays[1].get(name)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=None, help="default: enough for the kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    epochs = options.epochs or 3 + options.kills
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # What the first process has compiled serves those that follow.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "compiled"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        store = prepare(root)
        whole = start(store, root / "whole", epochs)  # beside the other
        kills = within = 0
        process = start(store, root / "killed", epochs)
        while kills < options.kills:
            where = kill_in_time(process, root / "killed", draw, kills % 3 == 0)
            if where is None:
                break
            kills += 1
            within += "within" in where
            print(f"kill {kills}: {where}", flush=True)
            process = start(store, root / "killed", epochs)
        output, _ = process.communicate()
        if process.returncode:
            print(output)
            print(f"FAILED: the run did not go on after {kills} kills")
            return 1
        output, _ = whole.communicate()
        if whole.returncode:
            print(output)
            return 1
        found = differences(root / "whole", root / "killed")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(f"{backend}, {epochs} epochs, {kills} kills, {within} of them within a save")
    if kills < options.kills:
        print(f"FAILED: the run ended before {options.kills} kills; give it more --epochs")
        return 1
    if found:
        print(f"FAILED: {len(found)} differ, such as {', '.join(found[:5])}")
        return 1
    print("PASSED: weights, optimiser, metrics and history.csv are equal bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
