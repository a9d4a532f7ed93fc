"""A recipe trained for every combination of some settings' values."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from hccr_tf.data.store.store import Store
from hccr_tf.evaluation.plots import draw_grid
from hccr_tf.papers.base import Inputs
from hccr_tf.papers.tables import evaluate, score_runs, with_interval
from hccr_tf.recipe import Recipe
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training import train
from hccr_tf.training.compilation import check_recipe
from hccr_tf.training.stages import best_epoch
from hccr_tf.training.trainer import DivergenceError
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write
from hccr_tf.utils.settings import to_text

# Columns of the best epoch's row, by those of `history.csv`.
OUTCOMES = {
    "loss": "train_loss",
    "main_output_accuracy": "train_accuracy",
    "val_loss": "val_loss",
    "val_main_output_accuracy": "val_accuracy",
}


def sweep(
    recipe: Recipe,
    grid: Mapping[str, Sequence[Any]],
    store: Store,
    folder: str | Path,
    *,
    split: str | None = None,
    **circumstances,
) -> pd.DataFrame:
    """Trains every combination; runs that are done already aren't trained again.

    Writes `sweep.csv` after each run, and `sweep.png` at the end.

    Args:
        recipe: what all runs share.
        grid: values by setting, as `Recipe.override` takes them.
        store: prepared data.
        folder: where the runs' folders go.
        split: of the store, to evaluate each run on; None for none.
        **circumstances: other arguments of `hccr_tf.training.train`.

    Returns:
        A row a combination: its settings, `state` and, at the best epoch, loss and accuracy of
        training and validation; with `split` also its accuracy in percent, with interval.

    Raises:
        HccrError: a setting that there isn't, or a value that it can't have; before anything
            is trained.
    """
    folder = Path(folder)
    cells = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    recipes = [recipe.override(cell) for cell in cells]
    folders = [folder / ",".join(f"{k}={_text(v)}" for k, v in cell.items()) for cell in cells]
    if len(set(folders)) < len(folders):
        raise HccrError("A setting has one value twice.")
    checked = set()
    for one in recipes:
        # These don't decide whether it can be trained.
        kind = repr(one.override(seed=0, learning_rate=1.0, batch_size=1))
        if kind not in checked:
            check_recipe(one, len(circumstances.get("charset") or store.charset))
            checked.add(kind)
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = [outcome(Workdir(path)) for path in folders]
    for place, (cell_recipe, path) in enumerate(zip(recipes, folders, strict=True)):
        print(f"[{place + 1} of {len(cells)}] {path.name}", flush=True)
        try:
            if outcomes[place]["state"] != "diverged":
                train(cell_recipe, store, path, **circumstances)
        except DivergenceError as error:
            # One of the things that a sweep is there to find out.
            print(error, flush=True)
        keras.utils.clear_session()
        outcomes[place] = outcome(Workdir(path))
        if split is not None and Workdir(path).prediction_weights.exists():
            (run,) = score_runs(Inputs(store, split, [path], folder))
            outcomes[place] |= with_interval(evaluate([run]).evaluation)
        table = pd.DataFrame(
            [
                {**{name: _text(value) for name, value in cell.items()}, **ended}
                for cell, ended in zip(cells, outcomes, strict=True)
            ]
        )
        with atomic_write(folder / "sweep.csv") as temporary:
            table.to_csv(temporary, index=False)
    value = "val_accuracy" if split is None else "accuracy"
    draw_grid(table, list(grid), value, folder / "sweep.png")
    return table


def _text(value: Any) -> str:
    """A value as a folder's name may hold it."""
    return to_text(value).replace("/", "_").replace(" ", "")


def outcome(workdir: Workdir) -> dict[str, Any]:
    """How a run ended: state, epochs, and loss and accuracy at its best epoch, as columns."""
    if not workdir.exists():
        return {"state": "not run"}
    run = workdir.read_run()
    found = {"state": run["state"]}
    if history := workdir.read_history():
        place = best_epoch(history)
        best = history[place]
        found |= {"epochs": len(history), "best_epoch": place + 1}
        found |= {name: round(best[key], 4) for key, name in OUTCOMES.items() if key in best}
        found["train_minutes"] = round(run.get("train_seconds", 0) / 60, 2)
    return found
