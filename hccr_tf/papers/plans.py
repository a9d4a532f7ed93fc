"""What has to be trained for a table or figure, as data: cells, each one `hccr train`.

A plan says it for each scale: "full" is the paper's data, size and epochs; "real-small" is real
data in hours of CPU; "smoke" is the embedded sample in seconds. Cells are runs in folders of their
own, so whatever is killed goes on where it was, and what wasn't run is said.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from hccr_tf.data.store.prepare import prepare
from hccr_tf.data.store.store import Store
from hccr_tf.papers.recipes import get_recipe
from hccr_tf.recipe import Recipe, flags
from hccr_tf.runs.workdir import Workdir
from hccr_tf.synthesis.sample import generate_gnt
from hccr_tf.training import train
from hccr_tf.training.trainer import DivergenceError
from hccr_tf.utils.errors import HccrError

SCALES = ("full", "real-small", "smoke")


@dataclass(frozen=True)
class Cell:
    """A run that a table or figure needs.

    Attributes:
        name: of its folder.
        recipe: a registered recipe.
        settings: as `Recipe.override` takes them.
    """

    name: str
    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Recipe:
        """The recipe to train."""
        return get_recipe(self.recipe).override(self.settings)

    @property
    def command(self) -> str:
        """The same as a command; store and folder go behind it."""
        return shlex.join(["hccr", "train", self.recipe, *flags(self.settings)])


Plan = Callable[[str], Sequence[Cell]]


def sample_store(folder: Path) -> Store:
    """The store of the smoke scale: the embedded sample, made where it isn't yet."""
    if not (folder / "store" / "manifest.json").exists():
        generate_gnt(folder / "sample", num_writers=12, num_test_writers=4, samples_per_writer=2)
        prepare([folder / "sample"], folder / "store", progress=False, overwrite=True)
    return Store(folder / "store")


def train_cells(
    cells: Sequence[Cell],
    store: Store,
    folder: Path,
    *,
    only: Sequence[str] | None = None,
    collect: bool = False,
) -> list[Path]:
    """Trains what isn't trained yet.

    Args:
        cells: of a plan.
        store: the data.
        folder: where the cells' folders are.
        only: names of the cells to train; all if None.
        collect: whether to train none, and only say how they stand.

    Returns:
        Folders of the cells that can predict, in the plan's order.

    Raises:
        HccrError: `only` names a cell that there isn't, or a folder holds another run.
    """
    names = [cell.name for cell in cells]
    if unknown := [name for name in only or () if name not in names]:
        raise HccrError(f"There are no cells {unknown}; there are {', '.join(names)}.")
    folder.mkdir(parents=True, exist_ok=True)
    for place, cell in enumerate(cells):
        if not collect and (only is None or cell.name in only):
            print(f"[{place + 1} of {len(cells)}] {cell.name}: {cell.command}", flush=True)
            try:
                train(cell.build(), store, folder / cell.name)
            except DivergenceError as error:
                print(error, flush=True)  # it's in the table
            keras.utils.clear_session()
    return [
        folder / cell.name
        for cell in cells
        if Workdir(folder / cell.name).prediction_weights.exists()
    ]


def cells_table(cells: Sequence[Cell], folder: Path) -> pd.DataFrame:
    """How cells stand: a row each, with command, data, seed, hardware and time."""
    rows = []
    for cell in cells:
        workdir = Workdir(folder / cell.name)
        row = {"cell": cell.name, "state": "not run", "command": cell.command}
        if workdir.exists():
            run = workdir.read_run()
            row |= {
                "state": run["state"],
                "epochs": run.get("epochs_done", 0),
                "epochs_asked": workdir.recipe.epochs,
                "seed": run["seed"],
                "data_hash": run["data_hash"][:16],
                "minutes": round(run.get("train_seconds", 0) / 60, 2),
                "hardware": workdir.hardware,
            }
        rows.append(row)
    return pd.DataFrame(rows)
