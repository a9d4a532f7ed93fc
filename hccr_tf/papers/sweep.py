"""A recipe trained for every combination of some settings' values: cells for the one runner."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from hccr_tf.data.dataset import Dataset
from hccr_tf.evaluation.plots import draw_grid
from hccr_tf.papers.base import Cell, is_trained, train_cells
from hccr_tf.papers.jobs import Jobs
from hccr_tf.papers.scores import Inputs, score_runs
from hccr_tf.papers.tables import outcome
from hccr_tf.recipe import Recipe
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.compilation import check_recipe
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import write_csv
from hccr_tf.utils.settings import to_text


def sweep(
    recipe: Recipe,
    grid: Mapping[str, Sequence[Any]],
    store: Dataset,
    folder: str | Path,
    *,
    split: str | None = None,
    jobs: Jobs | None = None,
    **circumstances,
) -> pd.DataFrame:
    """Trains every combination; runs that are done already aren't trained again.

    Writes `sweep.csv` after each run, and `sweep.png` at the end.

    Args:
        recipe: shared by all runs.
        grid: values by setting, as `Recipe.override` takes them.
        store: prepared data.
        folder: where the runs' folders go.
        split: of the store, to evaluate each run on; None for none.
        jobs: where runs are trained side by side; one by one here if None.
        **circumstances: other arguments of `hccr_tf.training.train`.

    Returns:
        A row a combination: its settings, `state` and, at the best epoch, loss and accuracy of
        training and validation; with `split` also its accuracy in percent, with interval.

    Raises:
        HccrError: a setting that there isn't, or a value that it can't have; before anything
            is trained.
    """
    folder = Path(folder)
    cells, rows = [], {}
    for values in product(*grid.values()):
        # As a folder's name may hold them.
        texts = [to_text(value).replace("/", "_").replace(" ", "") for value in values]
        name = ",".join(map("=".join, zip(grid, texts, strict=True)))
        cells.append(Cell(name, recipe, dict(zip(grid, values, strict=True))))
        rows[name] = dict(zip(grid, texts, strict=True)) | outcome(Workdir(folder / name))
    if len(rows) < len(cells):
        raise HccrError("A setting has one value twice.")
    # Rates, sizes of batches and seeds don't decide whether a recipe can be trained.
    kinds = [cell.build().override(seed=0, learning_rate=1.0, batch_size=1) for cell in cells]
    for kind in {repr(kind): kind for kind in kinds}.values():
        check_recipe(kind, len(circumstances.get("charset") or store.charset))
    for cell in train_cells(cells, store, folder, jobs=jobs, **circumstances):
        path = folder / cell.name
        rows[cell.name] |= outcome(Workdir(path))
        if split is not None and is_trained(folder, cell.name):
            (run,) = score_runs(Inputs(store, split, [path], folder, store))
            rows[cell.name] |= run.score.columns()
        table = pd.DataFrame(list(rows.values()))
        write_csv(folder / "sweep.csv", table)
    value = "val_accuracy" if split is None else "accuracy"
    draw_grid(table, list(grid), value, folder / "sweep.png")
    return table
