"""SIGKILL and SIGTERM at random moments of commands that write, each given again afterwards.

    python benchmarks/kill.py --moments 50
    python benchmarks/kill.py prepare pack --signals KILL

After each the earlier state must be whole or the new one, and the command given again must end
well. That a training killed 20 times ends bit for bit as one that wasn't, on both backends:

    HCCR_KILLS=20 python -m pytest tests/e2e/test_kill_resume.py
"""

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hccr_tf.data.store.store import Store
from hccr_tf.inference.logits_file import LogitsFile
from hccr_tf.inference.onnx_predictor import OnnxPredictor
from hccr_tf.inference.predictor import Predictor
from hccr_tf.runs.workdir import Workdir

_RESULTS = Path(__file__).parent / "results" / "kill.csv"
_HCCR = [sys.executable, "-m", "hccr_tf"]
_TRAIN = (
    "train brick_model1 --image-size 16 --model.num_bricks 2 --model.width 16 --epochs 1 "
    "--checkpoint-steps 3 --data {data} --workdir"
)
COMMANDS = {  # what's run, and the name of what it writes
    "prepare": ("data prepare {sample} --overwrite --out", "store"),
    "train": (_TRAIN, "run"),
    "evaluate": ("evaluate {run} --data {data} --out", "logits.h5"),
    "pack": ("pack {run} --out", "packed"),
    "export": ("export {run} --out", "network.onnx"),
    "predict": ("predict {sheet} --any-layout --csv", "read.csv"),
}


def _opens(path: Path) -> None:
    with LogitsFile(path):
        pass


def _has_rows(path: Path) -> None:
    assert path.read_text("utf-8").count("\n") > 1


def _is_no_run_or_whole(path: Path) -> None:
    assert not Workdir(path).exists() or Workdir(path).read_run()


CHECKS: dict[str, Callable[[Path], Any]] = {
    "prepare": lambda path: Store(path).verify(),
    "evaluate": _opens,
    "pack": Predictor,
    "export": OnnxPredictor,
    "predict": _has_rows,
    "train": _is_no_run_or_whole,
}


def whole(name: str, out: Path) -> bool:
    """Whether what a command wrote can be read as a whole."""
    try:
        CHECKS[name](out)
    except Exception as error:  # torn files raise whatever their readers do
        print(name, repr(error), flush=True)
        return False
    return True


def run(words: list[str], limit: float | None = None, number: int = 0) -> tuple[int, float]:
    """Runs `hccr`, and sends a signal after a time; returns the exit code and the seconds."""
    begin = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*_HCCR, *words], **quiet) as process:
        if limit is not None:
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
        code = process.wait()
    return code, time.monotonic() - begin


def record(row: dict[str, Any]) -> None:
    """Writes a row into the results, in place of an earlier one of that command and signal."""
    earlier = [*csv.DictReader(_RESULTS.open())] if _RESULTS.exists() else []
    rows = {(each["command"], each["signal"]): each for each in [*earlier, row]}
    with _RESULTS.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, row, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())


def main() -> None:
    """Measures how long each command takes, and interrupts it within that time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("commands", nargs="*", default=[*COMMANDS])
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--signals", nargs="+", default=["KILL", "TERM"])
    options = parser.parse_args()
    draw, rows = random.Random(0), []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        places = {n: str(base / n) for n in ("sample", "data", "run", "sheet")}
        places["sheet"] = str(base / "data-sheet.png")
        run(["data", "sample", "--out", places["sample"], "--writers", "6", "--test-writers", "2"])
        run(["data", "prepare", places["sample"], "--out", places["data"]])
        run(["data", "show", places["data"]])
        if {"evaluate", "pack", "export"} & set(options.commands):
            run([*_TRAIN.format(**places).split(), places["run"]])
        for name in options.commands:
            words, target = COMMANDS[name]
            out = base / "out" / name / target
            command = [*words.format(**places).split(), str(out)]
            out.parent.mkdir(parents=True)
            code, seconds = run(command)
            assert code == 0, (name, code)
            for kind in options.signals:
                torn = failed = interrupted = 0
                for _ in range(options.moments):
                    if name in ("train", "pack"):  # which replace nothing
                        shutil.rmtree(out, ignore_errors=True)
                    number = getattr(signal, f"SIG{kind}")
                    interrupted += run(command, draw.uniform(0, seconds), number)[0] != 0
                    torn += out.exists() and not whole(name, out)
                    if name == "pack":
                        shutil.rmtree(out, ignore_errors=True)
                    code, again = run(command)
                    failed += code != 0 or not whole(name, out)
                    seconds = min(seconds, again)  # a busy machine's first run is no measure
                row = {"command": name, "signal": kind, "moments": options.moments}
                rows.append(
                    {**row, "interrupted": interrupted, "torn": torn, "retries_failed": failed}
                )
                print(rows[-1], flush=True)
                record(rows[-1])
    sys.exit(any(int(row["torn"]) or int(row["retries_failed"]) for row in rows))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
