"""Shared by the benchmarks: commands, stores, names of weights, tables."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hccr_tf.models.weights import read_checksum
from hccr_tf.pretrained import find_run
from hccr_tf.runs.workdir import Workdir

RESULTS = Path(__file__).parent / "results"


def arguments_of(description: str) -> argparse.ArgumentParser:
    """Makes a parser whose --help is the script's docstring."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def hccr(*arguments) -> None:
    """Prints a command and runs it."""
    command = ["hccr", *(str(a) for a in arguments)]
    print("$", shlex.join(command), flush=True)
    subprocess.run([sys.executable, "-m", "hccr_tf", *command[1:]], check=True)


def prepare(store: Path, sources: Sequence[str] | None, flag: str, *arguments) -> None:
    """Makes a store where there's none yet; says which flag is missing if nothing is named."""
    if store.exists():
        return
    if not sources:
        raise SystemExit(f"error: there's no store in {store}; name the data with {flag}")
    hccr("data", "prepare", *sources, *arguments, "--out", store)


def weights_of(run: str | Path) -> str:
    """Returns the first digits of a run's checksum, by which tables name its weights."""
    return read_checksum(Workdir(find_run(run)).prediction_weights)[:12]


def in_process(script: str, *arguments) -> dict:
    """Returns what a benchmark's `one` prints last, from a process of its own on one thread."""
    words = [sys.executable, script, "one", json.dumps(arguments)]
    threads = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    environment = {**os.environ, **dict.fromkeys(threads, "1")}
    done = subprocess.run(words, stdout=subprocess.PIPE, env=environment, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])
