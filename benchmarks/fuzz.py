"""Damaged inputs of every kind, many thousands of each, under a memory limit and a watch.

    python benchmarks/fuzz.py images --inputs 200000
    python benchmarks/fuzz.py images --inputs 200000 --goes-on  # from the inputs that are recorded
    python benchmarks/fuzz.py stores --seed 12345 --inputs 1    # one input again, unrecorded

A process tries the inputs; one that takes over a minute of its processor time, or a quarter of an
hour, or ends the process (a crash, or memory above the limit), counts among the other endings, of
which there must be none. The verdict goes into results/fuzz.csv, a row a kind, every 500 inputs.
"""

import argparse
import contextlib
import csv
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests/helpers"), str(Path(__file__).parents[1])]
import fuzzed_data  # noqa: E402, F401 (registers its kinds)
import fuzzed_files  # noqa: E402, F401
from fuzzing import KINDS, Verdict, fuzz  # noqa: E402

_RESULTS = Path(__file__).parent / "results" / "fuzz.csv"
_SECONDS, _LONGEST = 60, 900  # for one input: of the processor, and in all


def processor_seconds(pid: int) -> float:
    """Returns what a process has taken so far."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def work(kind: str, first: int, last: int, gigabytes: float, state, results) -> None:
    """Tries inputs in this process; `state` has the seed at hand and when it was begun."""

    def begin(seed: int) -> None:
        state[0], state[1] = seed, time.monotonic()

    with tempfile.TemporaryDirectory() as folder:
        limit = int(gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        for start in range(first, last, 500):
            run = Path(folder) / str(start)
            run.mkdir()
            results.put(fuzz(kind, run, range(start, min(start + 500, last)), begin=begin))


def watch(whole: Verdict, first: int, last: int, gigabytes: float, note) -> None:
    """Tries inputs in other processes, one after another, and adds their verdicts to `whole`."""
    context, kind = multiprocessing.get_context("spawn"), whole.kind
    while first < last:
        state, results = context.Array("d", [first, time.monotonic()]), context.Queue()
        arguments = (kind, first, last, gigabytes, state, results)
        process = context.Process(target=work, args=arguments)
        process.start()
        seen, taken = -1.0, 0.0
        while process.is_alive() or not results.empty():
            try:
                part = results.get(timeout=1)
            except Exception:  # an empty queue
                with contextlib.suppress(OSError):  # of a process that has ended
                    now = processor_seconds(process.pid or 0)
                    seen, taken = (seen, taken) if seen == state[0] else (state[0], now)
                    wall = time.monotonic() - state[1]
                    if (now - taken > _SECONDS and wall > _SECONDS) or wall > _LONGEST:
                        process.kill()
                continue
            first += part.tried
            whole.tried += part.tried
            whole.accepted += part.accepted
            whole.refused += part.refused
            whole.slowest = max(whole.slowest, part.slowest)
            whole.others |= part.others
            print(whole, flush=True)
            note(whole)
        process.join()
        if first < last:  # what was tried since the last verdict is tried again, but for the last
            seed = int(state[0])
            whole.others[seed] = f"the process ended with {process.exitcode}"
            print(f"seed {seed} ended the process: {process.exitcode}", flush=True)
            whole.tried += seed + 1 - first
            first = seed + 1
            note(whole)


def recorded() -> dict[str, dict]:
    """Returns the rows of the results by kind."""
    return {row["kind"]: row for row in csv.DictReader(_RESULTS.open())}


def record(verdict: Verdict) -> None:
    """Writes a kind's row: what was tried from seed 0 on."""
    names = ("tried", "accepted", "refused")
    row = {"kind": verdict.kind, **{name: getattr(verdict, name) for name in names}}
    row |= {"other_endings": len(verdict.others), "slowest_seconds": f"{verdict.slowest:.2f}"}
    row["command"] = f"python benchmarks/fuzz.py {verdict.kind} --inputs {verdict.tried}"
    rows = recorded() | {verdict.kind: row}
    with _RESULTS.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, row, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[kind] for kind in sorted(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=[*KINDS])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, help="of the first input; nothing is recorded")
    parser.add_argument("--goes-on", action="store_true", help="from the inputs that are recorded")
    parser.add_argument("--gigabytes", type=float, default=4, help="of memory, at most")
    options = parser.parse_args()
    verdict, first = Verdict(options.kind), options.seed or 0
    if options.goes_on:
        row = recorded()[options.kind]
        assert row["other_endings"] == "0", "try all from the first, when those are mended"
        first = verdict.tried = int(row["tried"])
        verdict.accepted, verdict.refused = int(row["accepted"]), int(row["refused"])
        verdict.slowest = float(row["slowest_seconds"])
    last = (options.seed or 0) + options.inputs
    note = record if options.seed is None else lambda verdict: None
    watch(verdict, first, last, options.gigabytes, note)
    for seed, text in list(verdict.others.items())[:20]:
        print(f"--- seed {seed}\n{text}")
    print(verdict)
    sys.exit(bool(verdict.others))
