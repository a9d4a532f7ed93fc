"""What the trainings of tables take, said before any of them."""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import keras
import pandas as pd

from hccr_tf.data.dataset import Dataset
from hccr_tf.papers.base import Cell
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.plan import Cost, dry_run, duration

logger = logging.getLogger(__name__)

_OVER = ("finished", "diverged")
_ALIKE = ("model", "model_args", "batch_size", "optimizer", "mixed_precision", "samples_per_class")


def forecast(cells: Iterable[Cell], store: Dataset, folder: Path) -> pd.DataFrame:
    """Tells what's trained of cells, and what the others take: a row each; writes nothing.

    Time is tried by steps here, once for runs of one network, input and batch.

    Returns:
        Columns cell, state, epochs (those left), parameters, memory_gb, disk_gb, time and seconds,
        which are missing where this machine has too little memory to try.
    """
    per_epoch: dict[tuple, float | None] = {}
    rows = []
    for cell in cells:
        recipe, workdir = cell.build(), Workdir(folder / cell.name)
        run: dict = workdir.read_run() if workdir.exists() else {"state": "not run"}
        over = run["state"] in _OVER
        epochs = 0 if over else recipe.epochs - run.get("epochs_done", 0)
        row = {"cell": cell.name, "state": run["state"], "epochs": epochs}
        if not over:
            cost = Cost.of(recipe, len(store.charset))
            gb = {"memory_gb": round(cost.memory / 1e9, 2), "disk_gb": round(cost.disk / 1e9, 2)}
            key = recipe.preprocessing.image_size, *(repr(getattr(recipe, a)) for a in _ALIKE)
            if key not in per_epoch:
                logger.info("%s, a run of", cell.name)
                seconds = dry_run(recipe, store)
                per_epoch[key] = None if seconds is None else seconds / recipe.epochs
                keras.utils.clear_session()
            pace = per_epoch[key]
            seconds = None if pace is None else pace * epochs
            time = "not known" if seconds is None else duration(seconds)
            row |= {"parameters": cost.parameters, **gb, "time": time, "seconds": seconds}
        rows.append(row)
    return pd.DataFrame(rows)


def describe(table: pd.DataFrame, folder: Path) -> str:
    """Writes the sums of a forecast in a sentence."""
    left = table[~table["state"].isin(_OVER)] if len(table) else table
    if not len(left):
        return f"Nothing is to be trained: {len(table)} runs are there."
    unknown = left["seconds"].isna().sum()
    time = duration(left["seconds"].sum()) + (f" and {unknown} that isn't known" if unknown else "")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    return (
        f"{len(left)} of {len(table)} runs are to be trained in {folder}: about {time} here, one "
        f"after another; {left['memory_gb'].max():.2g} GB of memory at most, and what the "
        f"framework needs; {left['disk_gb'].sum():.2g} GB on disk, where {free:.0f} are free."
    )
