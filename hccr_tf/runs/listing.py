"""What runs there are below a folder, and how two of them differ."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hccr_tf.evaluation.plots import overlay_figure, save_figure
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import read_json

_ACTIVE_SECONDS = 180


@dataclass(frozen=True)
class RunState:
    """A run in a line.

    Attributes:
        workdir: its folder.
        state: "begun", "running", "finished", "diverged" or "imported", as the run wrote it;
            "running" of a run that hasn't written for a while reads "stopped".
        epochs: epochs done and asked for.
        best: best validation accuracy of the main output, None before the first epoch.
        best_epoch: when that was, counted from 1.
        data_hash: of the store.
    """

    workdir: Workdir
    state: str
    epochs: tuple[int, int]
    best: float | None
    best_epoch: int | None
    data_hash: str


def find_runs(folder: Path) -> list[Path]:
    """All run folders at any depth below a folder, or the folder itself, by name.

    Raises:
        FileNotFoundError: there's no such folder.
        HccrError: it holds no run.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder.")
    found = sorted(
        path.parent for path in folder.rglob("run.json") if (path.parent / "recipe.json").exists()
    )
    if not found:
        raise HccrError(f"There's no run in {folder}; `hccr train … --workdir` makes one.")
    return found


def describe(path: Path) -> RunState:
    """Reads the state of a run."""
    workdir = Workdir(path)
    run = workdir.read_run()
    state = run["state"]
    if state in ("begun", "running") and not _is_active(workdir):
        state = "stopped"
    return RunState(
        workdir,
        state,
        (run.get("epochs_done", 0), workdir.recipe.epochs),
        run.get("best_val_accuracy"),
        run.get("best_epoch"),
        run["data_hash"],
    )


def _is_active(workdir: Workdir) -> bool:
    """Whether some process holds the run's lock; by its files' times where there are no locks."""
    from hccr_tf.utils.files import is_locked

    locked = is_locked(workdir.lock_path)
    if locked is not None:
        return locked
    newest = max(p.stat().st_mtime for p in workdir.path.iterdir())
    return time.time() - newest < _ACTIVE_SECONDS


def runs_table(folder: Path) -> pd.DataFrame:
    """A row a run: name, recipe, state, epochs, best validation accuracy, data."""
    rows = []
    for path in find_runs(folder):
        run = describe(path)
        rows.append(
            {
                "run": str(path.relative_to(folder)) if path != folder else path.name,
                "recipe": run.workdir.recipe.name,
                "state": run.state,
                "epochs": "{}/{}".format(*run.epochs),
                "best": "" if run.best is None else f"{100 * run.best:.2f} %",
                "at": "" if run.best_epoch is None else str(run.best_epoch),
                "data": run.data_hash[:8],
            }
        )
    return pd.DataFrame(rows)


def compare(first: Path, second: Path, image: Path) -> list[str]:
    """Says how two runs differ and draws their curves over each other.

    Args:
        first, second: run folders.
        image: PNG to write; not written where one of them has no epoch yet.

    Returns:
        Lines: every setting that differs, the data if it does, then the best results.
    """
    runs = [Workdir(path) for path in (first, second)]
    lines = [f"recipe      {line}" for line in runs[0].recipe.differences(runs[1].recipe)]
    facts = [run.read_run() for run in runs]
    for name, title in (("data_hash", "data"), ("charset_sha256", "charset")):
        mine, theirs = (fact[name][:12] for fact in facts)
        if mine != theirs:
            lines.append(f"{title:<12}{mine}, {theirs}")
    environments = [read_json(run.path / "environment.json") for run in runs]
    for name in ("backend", "devices", "packages"):
        mine, theirs = (environment.get(name) for environment in environments)
        if mine != theirs:
            lines.append(f"{name:<12}{mine}, {theirs}")
    if not lines:
        lines.append("same recipe, data, charset and environment")
    histories = {}
    for run, fact in zip(runs, facts, strict=True):
        best = fact.get("best_val_accuracy")
        result = (
            "no epoch yet"
            if best is None
            else (f"best validation accuracy {100 * best:.2f} % at epoch {fact['best_epoch']}")
        )
        lines.append(f"{run.path}: {result}")
        if run.history_path.exists():
            histories[str(run.path)] = pd.read_csv(run.history_path)
    if len(histories) == len({first, second}):
        save_figure(overlay_figure(histories), image)
        lines.append(f"curves      {image}")
    return lines
