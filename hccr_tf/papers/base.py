"""Tables and figures by name, the trainings that each needs, and the one runner of trainings.

A plan lists cells, each one `hccr train`, for a scale: "full" is the paper's data, size and epochs;
"hwdb100" is 100 HWDB classes in days of CPU; "real-small" is real data in hours; "smoke" is the
embedded sample in seconds. Cells are runs in folders of their own, so whatever is killed goes on
where it was, and a table of them says which were not run.
"""

import inspect
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from hccr_tf import __version__
from hccr_tf.data.dataset import Dataset
from hccr_tf.data.opening import open_dataset
from hccr_tf.data.store.prepare import prepare
from hccr_tf.data.store.store import Store
from hccr_tf.papers.jobs import Jobs
from hccr_tf.papers.recipes import get_recipe, paper_modules
from hccr_tf.papers.scores import Inputs
from hccr_tf.papers.tables import Tables, training_columns
from hccr_tf.pretrained import find_run
from hccr_tf.recipe import Recipe, flags
from hccr_tf.runs.workdir import Workdir
from hccr_tf.synthesis.sample import generate_gnt
from hccr_tf.training import train
from hccr_tf.training.trainer import DivergenceError
from hccr_tf.utils.errors import HccrError, unknown
from hccr_tf.utils.files import write_csv, write_json
from hccr_tf.utils.registry import Registry

logger = logging.getLogger(__name__)

SCALES = ("full", "hwdb100", "real-small", "smoke")


# === Cells and experiments ===


@dataclass(frozen=True)
class Cell:
    """A run that a table or figure needs."""

    name: str  # of its folder
    recipe: str | Recipe  # a recipe, or the name of a registered one
    settings: dict[str, Any] = field(default_factory=dict)  # as `Recipe.override` takes them
    init_from: str | None = None  # name of the run beside it whose weights it begins with
    shown: bool = True  # whether tables show it; others only begin with it

    def build(self) -> Recipe:
        """Returns the recipe to train."""
        recipe = get_recipe(self.recipe) if isinstance(self.recipe, str) else self.recipe
        return recipe.override(self.settings)

    def command(self, store: Path, folder: Path) -> str:
        """Returns the command that trains it on a store, beside other cells in a folder."""
        recipe = self.recipe if isinstance(self.recipe, str) else self.recipe.name
        begin = ["--init-from", str(folder / self.init_from)] if self.init_from else []
        to = ["--data", str(store), "--workdir", str(folder / self.name)]
        return shlex.join(["hccr", "train", recipe, *flags(self.settings), *begin, *to])


Plan = Callable[[str], Sequence[Cell]]
"""Lists what has to be trained at a scale."""


@dataclass(frozen=True)
class Experiment:
    """A table or figure."""

    name: str  # as `hccr reproduce` takes it
    run: Callable[[Inputs], Tables]  # makes it; each table is written as CSV besides
    plan: Plan
    scales: Sequence[str]  # those that the plan knows

    @property
    def description(self) -> str:
        """First line of its docstring."""
        return (inspect.getdoc(self.run) or "").splitlines()[0]

    def cells(self, scale: str) -> Sequence[Cell]:
        """Lists the trainings at a scale; HccrError where there's no plan for it."""
        if scale not in self.scales:
            raise HccrError(
                f"{self.name} has no plan of what to train at the scale {scale}; there is one for "
                f"{', '.join(self.scales)}. Name runs: --workdir RUN…"
            )
        return self.plan(scale)


EXPERIMENTS: Registry[Experiment] = Registry("experiment", lambda: paper_modules("experiments"))


def register_experiment(*, plan: Plan, scales: Sequence[str] = ("full", "real-small", "smoke")):
    """Registers the decorated function as an experiment; see `Experiment`."""

    def register(function: Callable[[Inputs], Tables]):
        name = function.__name__
        EXPERIMENTS.add(name, Experiment(name, function, plan, scales))
        return function

    return register


# === Trainings ===


def train_cells(
    cells: Sequence[Cell],
    store: Dataset,
    folder: Path,
    *,
    only: Sequence[str] | None = None,
    jobs: Jobs | None = None,
    **circumstances,
) -> Iterator[Cell]:
    """Trains the cells, or `only` some, that aren't trained yet, and yields all as they end.

    One that diverged isn't tried again, and one that begins with another is trained after it.
    `jobs` train side by side; this process one by one if None. `circumstances` are other arguments
    of `hccr_tf.training.train`.

    Raises:
        HccrError: `only` names a cell that there isn't, a cell begins with a run that isn't
            there, or a folder holds another run.
    """
    jobs = jobs or Jobs()
    room = jobs.number if jobs.ray is None else len(cells)
    names = [cell.name for cell in cells]
    for name in set(only or ()) - set(names):
        raise unknown("cell", name, names)
    folder.mkdir(parents=True, exist_ok=True)
    where = store.path.absolute(), folder.absolute()
    waiting = [
        cell
        for cell in cells
        if (only is None or cell.name in only) and not _diverged(Workdir(folder / cell.name))
    ]
    yield from (cell for cell in cells if cell not in waiting)
    running: dict[Future, Cell] = {}
    with jobs.open() as submit:
        while waiting or running:
            unfinished = {cell.name for cell in (*waiting, *running.values())}
            ready = [cell for cell in waiting if cell.init_from not in unfinished]
            for cell in ready[: room - len(running)]:
                waiting.remove(cell)
                number = names.index(cell.name) + 1
                command = cell.command(store.path, folder)
                logger.info("[%d of %d] %s: %s", number, len(cells), cell.name, command)
                if cell.init_from is not None and not is_trained(folder, cell.init_from):
                    raise HccrError(
                        f"{cell.name} begins with the run {cell.init_from}, which isn't trained in "
                        f"{folder}; train that first (`hccr reproduce NAME --only "
                        f"{cell.init_from}`, on the data that it's for)."
                    )
                running[submit(_train_cell, cell, *where, circumstances)] = cell
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                yield running.pop(future)


def _train_cell(cell: Cell, store: Path, folder: Path, circumstances: dict[str, Any]) -> None:
    own = {} if cell.init_from is None else {"init_from": folder / cell.init_from}
    try:
        train(cell.build(), store, folder / cell.name, **{**circumstances, **own})
    except DivergenceError as error:
        logger.warning("%s", error)  # it's in the table
    keras.utils.clear_session()


def _diverged(workdir: Workdir) -> bool:
    return workdir.exists() and workdir.read_run()["state"] == "diverged"


def is_trained(folder: Path, name: str) -> bool:
    """Returns whether a cell's run can predict."""
    return Workdir(folder / name).prediction_weights.exists()


def cells_table(cells: Sequence[Cell], store: Path, folder: Path) -> pd.DataFrame:
    """Tells how cells stand: a row each, with command, data, seed, hardware and time."""
    rows = []
    for cell in cells:
        workdir = Workdir(folder / cell.name)
        command = cell.command(store, folder)
        row: dict[str, Any] = {"cell": cell.name, "state": "not run", "command": command}
        if workdir.exists():
            row |= {"state": workdir.read_run()["state"], **_training(workdir)}
        rows.append(row)
    return pd.DataFrame(rows)


def _training(workdir: Workdir) -> dict[str, Any]:
    """Tells how a run was trained; `data_hash` is of the data that it learnt from."""
    return {"data_hash": workdir.read_run()["data_hash"][:16], **training_columns(workdir)}


def sample_store(folder: Path) -> Store:
    """Opens the store of the smoke scale, the embedded sample, made where it isn't yet."""
    if not (folder / "store" / "manifest.json").exists():
        generate_gnt(folder / "sample", num_writers=12, num_test_writers=4, samples_per_writer=2)
        prepare([folder / "sample"], folder / "store", progress=False, overwrite=True)
    return Store(folder / "store")


# === From a name to tables ===


def reproduce(
    name: str,
    *,
    data: str | Path | Dataset | None = None,
    scale: str | None = None,
    workdir: Sequence[str | Path] = (),
    out: str | Path | None = None,
    test_data: str | Path | Dataset | None = None,
    split: str = "test",
    only: Sequence[str] | None = None,
    runs: str | Path | None = None,
    jobs: Jobs | None = None,
) -> dict[Path, pd.DataFrame]:
    """Makes a table or figure of a paper, ours beside the paper's own numbers.

    Writes each table as CSV, images where the paper has them, `about.json`, and `cells.csv`:
    what was trained by which command, and what was not run.

    Args:
        name: of an experiment.
        data: prepared data; the embedded sample if None, which goes with the scale "smoke".
        scale: one of `SCALES`, whose cells are trained first.
        workdir: trained runs, a row each, in place of a scale's.
        out: folder for the results; results/NAME, or results/SCALE/NAME, if None.
        test_data: other data to test on; `data` if None.
        split: to test on.
        only: names of the cells to train; all if None, none if empty.
        runs: folder of the cells, which tables share; "runs" beside `out` if None.
        jobs: where cells are trained side by side; one by one here if None.

    Returns:
        Tables by the file that each was written to; none where nothing is trained yet.

    Raises:
        HccrError: there's no such experiment, scale, split or cell, or a run doesn't fit.
    """
    experiment = EXPERIMENTS[name]
    cells = [] if scale is None else experiment.cells(scale)
    out = Path(out or Path("results") / (scale or "") / name)
    out.mkdir(parents=True, exist_ok=True)
    store = sample_store(out.parent / "sample") if data is None else open_dataset(data)
    tested = store if test_data is None else open_dataset(test_data)
    tested.indices(split)  # says so if there are none, before hours of training
    paths = [find_run(path) for path in workdir]
    if cells:
        folder = Path(runs or out.parent / "runs")
        try:
            for _ in train_cells(cells, store, folder, only=only, jobs=jobs):
                pass
        finally:
            # Also where it's stopped: it says what was not run.
            write_csv(out / "cells.csv", cells_table(cells, store.path, folder))
        paths = [folder / c.name for c in cells if c.shown and is_trained(folder, c.name)]
        if not paths:
            return {}
    inputs = Inputs(tested, split, paths, out, store)
    tables = experiment.run(inputs)
    if paths:
        trained = [(name, Workdir(path)) for name, path in inputs.named_runs().items()]
        rows = [{"run": n, "recipe": w.recipe.name, **_training(w)} for n, w in trained]
        tables["runs"] = pd.DataFrame(rows)
    commands = {cell.name: cell.command(store.path, folder) for cell in cells}
    written = {}
    for title, table in tables.items():
        if "train_command" in table:  # what makes this run alone
            made = table["run" if "run" in table else "model"].map(commands)
            table["train_command"] = made.astype(object).fillna(table["train_command"])
        path = out / f"{name}_{title}.csv"
        write_csv(path, table)
        written[path] = table
    about = {
        "experiment": name,
        "description": experiment.description,
        "scale": scale,
        "data": tested.path.name,
        "data_hash": tested.data_hash,
        "split": split,
        "tables": [path.name for path in written],
        "made": date.today().isoformat(),
        "version": __version__,
    }
    write_json(out / "about.json", about)
    return written
