"""What tables are made of: the papers' own numbers, and columns that they share."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hccr_tf.evaluation.significance import compare_pairs
from hccr_tf.papers.scores import Inputs, ScoredRun
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.stages import best_epoch
from hccr_tf.utils.errors import HccrError

# Columns of the best epoch's row, by those of `history.csv`.
_OUTCOMES = {
    "loss": "train_loss",
    "main_output_accuracy": "train_accuracy",
    "val_loss": "val_loss",
    "val_main_output_accuracy": "val_accuracy",
}

Tables = dict[str, pd.DataFrame]
"""Tables by name; that of our runs is "ours", the paper's is "paper"."""


def paper_table(paper: str, table: str) -> pd.DataFrame:
    """Reads a table, such as "table 3" of "melnyk_2018", as its paper prints it.

    Returns:
        Texts, rows and columns in the paper's order, the row's name as index.

    Raises:
        HccrError: the paper's `results.csv` holds no such table.
    """
    path = Path(__file__).parent / paper / "results.csv"
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    cells = cells[cells["table"] == table]
    if cells.empty:
        raise HccrError(f"{path} holds no {table}.")
    wide = cells.pivot(index="row", columns="column", values="value")
    return wide.loc[cells["row"].unique(), cells["column"].unique()]


def runs_table(
    runs: Sequence[ScoredRun], inputs: Inputs, columns: Callable[[ScoredRun], Mapping[str, Any]]
) -> pd.DataFrame:
    """Makes a row of each run: network, cost, accuracy, and where all this comes from.

    `columns` makes further ones of a run, of what the table is about.
    """
    rows = [
        {
            "run": run.name,
            "network": run.workdir.recipe.model,
            "image_size": run.workdir.preprocessing.image_size,
            **columns(run),
            "parameters": run.parameters,
            "size_mb": round(run.size_mb, 2),
            "gmac": round(run.macs / 1e9, 4),
            **run.score.columns(),
            "test_set": inputs.test_set(),
            "samples": len(run.score.right),
            "data_hash": inputs.store.data_hash[:16],
            **training_columns(run.workdir),
        }
        for run in runs
    ]
    return pd.DataFrame(rows)


def pairs_tables(runs: Sequence[ScoredRun]) -> Tables:
    """Compares every two runs (`pairs`, McNemar's exact test); no table of a single run."""
    right = {run.name: run.score.right for run in runs}
    return {"pairs": compare_pairs(right)} if len(runs) > 1 else {}


def beginnings(run: ScoredRun) -> dict[str, Any]:
    """Data and weights that a run began with, as columns of a table."""
    recipe, facts = run.workdir.recipe, run.workdir.read_run()
    begins = recipe.weights or "fresh weights"
    if "init_recipe" in facts:
        begins = f"{facts['init_recipe']} on data {facts['init_data_hash'][:8]}"
    return {
        "samples_per_class": recipe.samples_per_class or "all",
        "begins_with": begins,
        "stages": len(recipe.all_stages()),
    }


def training_columns(workdir: Workdir) -> dict[str, Any]:
    """Seed, length, time and machine of a training, as columns of a table."""
    facts = workdir.read_run()
    return {
        "seed": facts["seed"],
        "epochs": facts.get("epochs_done"),
        "epochs_asked": workdir.recipe.epochs,
        "best_epoch": facts.get("best_epoch"),
        "train_minutes": round(facts.get("train_seconds", 0) / 60, 1),
        "hardware": workdir.hardware,
        "train_command": facts["command"],
    }


def outcome(workdir: Workdir) -> dict[str, Any]:
    """State, epochs, and loss and accuracy at the best epoch of a run, as columns of a table."""
    if not workdir.exists():
        return {"state": "not run"}
    facts = workdir.read_run()
    columns = {"state": facts["state"]}
    if history := workdir.read_history():
        place = best_epoch(history)
        best = history[place]
        columns |= {"epochs": len(history), "best_epoch": place + 1}
        columns |= {name: round(best[key], 4) for key, name in _OUTCOMES.items() if key in best}
        columns["train_minutes"] = round(facts.get("train_seconds", 0) / 60, 2)
    return columns


def histories(inputs: Inputs) -> tuple[Tables, pd.DataFrame]:
    """Reads the curves of runs: by name, and one after another with a column `run`."""
    curves = {}
    for name, path in inputs.named_runs().items():
        curves[name] = pd.DataFrame(Workdir(path).read_history())
        if curves[name].empty:
            raise HccrError(f"{path} has no epoch that is done; train on.")
    together = [curve.assign(run=name) for name, curve in curves.items()]
    return curves, pd.concat(together, ignore_index=True)


def check_distinct(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuses to average runs, with a HccrError, of which two are equal in all these columns."""
    twice = rows[rows.duplicated(list(columns), keep=False)]
    if len(twice):
        raise HccrError(
            f"{len(twice)} runs differ in none of {', '.join(columns)}, so there's no telling what "
            "their mean is of; name one of them only."
        )
