"""List training runs and compare two."""

import time
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from hccr_tf.evaluation.plots import overlay_figure, save_figure
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import is_locked

_ACTIVE_SECONDS = 180


def find_runs(folder: Path) -> list[Path]:
    """Finds all run folders at any depth below a folder, or the folder itself, by name.

    Raises:
        FileNotFoundError: there's no such folder.
        HccrError: it holds no run.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder.")
    runs = sorted(
        path.parent for path in folder.rglob("run.json") if (path.parent / "recipe.json").exists()
    )
    if not runs:
        raise HccrError(f"There's no run in {folder}; `hccr train … --workdir` makes one.")
    return runs


def run_state(workdir: Workdir) -> str:
    """Reads a run's state: "begun", "running", "finished", "diverged" or "imported".

    "running" of a run in which no process trains reads "stopped".
    """
    state = workdir.read_run()["state"]
    trains = is_locked(workdir.lock_path)
    if trains is None:  # without locks, by how new its files are
        newest = max(p.stat().st_mtime for p in workdir.path.iterdir())
        trains = time.time() - newest < _ACTIVE_SECONDS
    return "stopped" if state in ("begun", "running") and not trains else state


def runs_table(folder: Path) -> pd.DataFrame:
    """Lists the runs of a folder, a row each: name, recipe, state, epochs, best result, data."""
    rows = []
    for path in find_runs(folder):
        workdir = Workdir(path)
        run = workdir.read_run()
        best = run.get("best_val_accuracy")
        rows.append(
            {
                "run": str(path.relative_to(folder)) if path != folder else path.name,
                "recipe": workdir.recipe.name,
                "state": run_state(workdir),
                "epochs": f"{run.get('epochs_done', 0)}/{workdir.recipe.epochs}",
                "best": "" if best is None else f"{100 * best:.2f} %",
                "at": str(run.get("best_epoch") or ""),
                "data": run["data_hash"][:8],
            }
        )
    return pd.DataFrame(rows)


def compare(first: Path, second: Path, image: Path) -> list[str]:
    """Says how two runs differ, and draws their curves over each other where both have some.

    Returns:
        Lines: every setting that differs, the data if it does, then the best results.
    """
    runs = [Workdir(path) for path in (first, second)]
    lines = [f"recipe      {line}" for line in runs[0].recipe.differences(runs[1].recipe)]
    facts = [run.read_run() for run in runs]
    described = [
        {
            "data": fact["data_hash"][:12],
            "charset": fact["charset_sha256"][:12],
            **run.read_environment(),
        }
        for run, fact in zip(runs, facts, strict=True)
    ]
    for name in ("data", "charset", "backend", "devices", "packages"):
        mine, theirs = (description.get(name) for description in described)
        if mine != theirs:
            lines.append(f"{name:<12}{mine}, {theirs}")
    if not lines:
        lines.append("same recipe, data, charset and environment")
    histories = {}
    for run, fact in zip(runs, facts, strict=True):
        result = "no epoch yet"
        if (best := fact.get("best_val_accuracy")) is not None:
            result = f"best validation accuracy {100 * best:.2f} % at epoch {fact['best_epoch']}"
        lines.append(f"{run.path}: {result}")
        if run.history_path.exists():
            histories[str(run.path)] = run.read_curves()
    if len(histories) == len({first, second}):
        save_figure(overlay_figure(histories, same_loss=same_loss(runs)), image)
        lines.append(f"curves      {image}")
    return lines


def same_loss(runs: Iterable[Workdir]) -> bool:
    """Whether runs learnt by one loss, so that its values can be compared."""
    recipes = [run.recipe for run in runs]
    return all(
        (r.loss, dict(r.loss_args)) == (recipes[0].loss, dict(recipes[0].loss_args))
        for r in recipes
    )
