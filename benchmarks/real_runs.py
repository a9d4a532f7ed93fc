"""What the scripts that train on real data share: commands, resuming, tables."""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from hccr_tf.models.weights import read_checksum
from hccr_tf.pretrained import find_run
from hccr_tf.runs.workdir import Workdir

RESULTS = Path(__file__).parent / "results"


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
    """What identifies a run's weights in a table: the first digits of their checksum."""
    return read_checksum(Workdir(find_run(run)).prediction_weights)[:12]


def trained(runs: Path, settings: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of the runs that a folder holds, in their order."""
    return [name for name in settings if (runs / name / "prediction.safetensors").exists()]


def reproduce(experiment: str, runs: Path, names: Sequence[str], out: Path) -> None:
    """Makes a paper's table of some runs."""
    folders = [runs / name for name in names]
    hccr("reproduce", experiment, "--data", runs / "store", "--workdir", *folders, "--out", out)


def keep_results(out: Path, settings: Mapping[str, Sequence[str]]) -> None:
    """Copies what `hccr reproduce` wrote to results/, where the notebooks find it.

    Args:
        out: its folder.
        settings: arguments of `hccr train` by the run's name, for the table `ours`.
    """
    about = json.loads((out / "about.json").read_text(encoding="utf-8"))
    kept = RESULTS / about["experiment"]
    kept.mkdir(exist_ok=True)
    for name in about["tables"]:
        table = pd.read_csv(out / name)
        if "train_command" in table:
            names = table["model" if "model" in table else "run"]
            table["train_command"] = commands(names, settings)
        table.to_csv(kept / name, index=False)
    shutil.copyfile(out / "about.json", kept / "about.json")


def commands(names: Iterable[str], settings: Mapping[str, Sequence[str]]) -> list[str]:
    """The commands that trained runs; where these lie is of no interest."""
    return [shlex.join(["hccr", "train", *settings[name]]) for name in names]


def with_state(table: pd.DataFrame, settings: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """A table of runs, by column `run`, with their states and commands and what wasn't run."""
    table = table.copy()
    table["train_command"] = commands(table["run"], settings)
    table["state"] = [
        "finished" if row["epochs"] == row["epochs_asked"] else "ended before its last epoch"
        for row in table.to_dict("records")
    ]
    missing = [n for n in settings if n not in set(table["run"])]
    return pd.concat(
        [table, pd.DataFrame([{"run": name, "state": "not run"} for name in missing])],
        ignore_index=True,
    )


def with_earlier(
    table: pd.DataFrame, path: Path, names: Sequence[str], *columns: str
) -> pd.DataFrame:
    """A table with the rows of an earlier one whose runs aren't in the folder any more.

    Long trainings are spread over several runs of a script, each with its own folder.

    Args:
        table: rows of the runs that the folder holds.
        path: CSV of the earlier table; there may be none.
        names: the runs that the folder holds.
        *columns: those that name a row's runs; `run` if none.
    """
    if not path.exists():
        return table
    earlier = pd.read_csv(path)
    old = ~earlier[list(columns or ["run"])].isin(names).all(axis=1)
    if "state" in earlier:
        old &= earlier["state"] != "not run"
    return pd.concat([earlier[old], table], ignore_index=True)


def histories(runs: Path, names: Sequence[str]) -> pd.DataFrame:
    """The curves of runs, one after another."""
    return pd.concat([pd.read_csv(runs / n / "history.csv").assign(run=n) for n in names])


def main(
    description: str, settings: Mapping[str, Sequence[str]], collect: Callable[[Path], None]
) -> None:
    """Prepares, trains what isn't trained yet, and tabulates.

    Args:
        description: for --help.
        settings: arguments of `hccr train` by the run's name.
        collect: tabulates what a folder of runs holds.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", nargs="+", help="the two zips of the repack")
    parser.add_argument("--runs", type=Path, required=True, help="folder for store and runs")
    parser.add_argument("--only", nargs="+", choices=list(settings), default=list(settings))
    parser.add_argument("--collect", action="store_true", help="only predict and tabulate")
    options = parser.parse_args()
    store = options.runs / "store"
    prepare(store, options.source, "--source")
    if not options.collect:
        for name in options.only:
            hccr("train", *settings[name], "--data", store, "--workdir", options.runs / name)
    collect(options.runs)
