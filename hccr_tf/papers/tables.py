"""What tables are made of: runs scored on one split, the papers' own numbers, shared columns.

Logits are kept, so that nothing is predicted twice.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pandas as pd

from hccr_tf.data.dataset import Dataset
from hccr_tf.evaluation.complexity import count_macs, size_mb
from hccr_tf.evaluation.metrics import softmax
from hccr_tf.evaluation.significance import compare_pairs, wilson_interval
from hccr_tf.inference.logits_file import LogitsFile, check_same_samples
from hccr_tf.inference.predictor import Predictor, predict_split
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.models.weights import read_checksum
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.stages import best_epoch
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import distinct_names

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
    """Reads a table as its paper prints it, from the paper's `results.csv`.

    Args:
        paper: its room, such as "melnyk_2018".
        table: such as "table 3".

    Returns:
        Texts, rows and columns in the paper's order, the row's name as index.

    Raises:
        HccrError: there's no such table.
    """
    path = Path(__file__).parent / paper / "results.csv"
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    cells = cells[cells["table"] == table]
    if cells.empty:
        raise HccrError(f"{path} holds no {table}.")
    wide = cells.pivot(index="row", columns="column", values="value")
    return wide.loc[cells["row"].unique(), cells["column"].unique()]


# === Runs and their scores ===


@dataclass(frozen=True)
class Inputs:
    """Data and runs of which an experiment makes its tables.

    Attributes:
        store: the data to test on.
        split: of the store.
        runs: folders of trained runs, in the order in which they're shown.
        out: folder for the results.
        validation_store: whose validation split is looked at where something is chosen.
    """

    store: Dataset
    split: str
    runs: Sequence[Path]
    out: Path
    validation_store: Dataset

    def named_runs(self) -> dict[str, Path]:
        """Returns the runs by distinct names.

        Raises:
            HccrError: there are none.
        """
        if not self.runs:
            raise HccrError("Name the trained runs: --workdir RUN…")
        return dict(zip(distinct_names(self.runs), self.runs, strict=True))

    def test_set(self) -> str:
        """Names the data that a row was measured on."""
        return f"{self.store.path.name} {self.split}, {len(self.store.charset)} classes"


@dataclass(frozen=True)
class Fusion:
    """Logits files whose weighted sum is read.

    Attributes:
        files: of the same samples.
        weights: one for each of them; all 1 if empty.
        dataset: "logits", or "logits_center" for the centre crop of five.
        probabilities: whether probabilities are summed in place of logits.
        bias: float (C,), subtracted from the sum.
    """

    files: Sequence[Path]
    weights: Sequence[float] = ()
    dataset: str = "logits"
    probabilities: bool = False
    bias: Any = 0


@dataclass(frozen=True)
class Score:
    """Readings of a split by a run, or by several together.

    Attributes:
        read: int64 (N,), each sample's class under the run's own charset.
        right: bool (N,), which samples are read rightly.
    """

    read: np.ndarray
    right: np.ndarray


def score_fusions(fusions: Sequence[Fusion]) -> list[Score]:
    """Scores many fusions of the same samples at once.

    Goes through the files in pieces: at a paper's scale a model's logits are 26 GB.

    Raises:
        HccrError: files with different samples or charsets.
    """
    paths = dict.fromkeys(path for fusion in fusions for path in fusion.files)
    read: list[list[np.ndarray]] = [[] for _ in fusions]
    labels = []
    with contextlib.ExitStack() as stack:
        files = {path: stack.enter_context(closing(LogitsFile(path))) for path in paths}
        first, *_ = files.values()
        check_same_samples(list(files.values()))
        for rows in first.chunks():
            labels.append(first.labels(rows))
            blocks: dict[tuple, np.ndarray] = {}
            for fusion, parts in zip(fusions, read, strict=True):
                total = -fusion.bias
                weights = fusion.weights or (1,) * len(fusion.files)
                for path, weight in zip(fusion.files, weights, strict=True):
                    block = path, fusion.dataset, fusion.probabilities
                    if block not in blocks:
                        logits = files[path].logits(rows, fusion.dataset)
                        blocks[block] = softmax(logits) if fusion.probabilities else logits
                    total = total + weight * blocks[block]
                parts.append(total.argmax(axis=1))
    true = np.concatenate(labels)
    return [Score(whole, whole == true) for whole in map(np.concatenate, read)]


@dataclass(frozen=True)
class ScoredRun:
    """A run and its logits of whole images.

    Attributes:
        name: distinct among the runs of an experiment.
        workdir: its folder.
        logits: HDF5 file with the logits of the split.
        score: what it reads.
        parameters: of the network without auxiliary heads.
        size_mb: of these as float32.
        macs: multiply–accumulates for one image.
        bias: float (C,), the classifier's; None where the main output is no dense layer.
    """

    name: str
    workdir: Workdir
    logits: Path
    score: Score
    parameters: int
    size_mb: float
    macs: int
    bias: np.ndarray | None


def score_runs(inputs: Inputs) -> list[ScoredRun]:
    """Predicts the split with every run; logits of the same weights and data are kept.

    Raises:
        HccrError: no runs, or one without weights, or whose charset doesn't cover the store.
    """
    scored = []
    for name, path in inputs.named_runs().items():
        model = Predictor(path).model
        logits = inputs.out / "logits" / f"{name}.h5"
        predict_once(path, inputs.store, logits, inputs.split, "none")
        (score,) = score_fusions([Fusion([logits])])
        classifier = model.get_layer(MAIN_OUTPUT)
        dense = isinstance(classifier, keras.layers.Dense)
        bias = keras.ops.convert_to_numpy(classifier.bias) if dense else None
        cost = model.count_params(), size_mb(model), count_macs(model)
        scored.append(ScoredRun(name, Workdir(path), logits, score, *cost, bias))
    return scored


def predict_once(
    run: Path, store: Dataset, out: Path, split: str, crops: str, *, blur: bool = True
) -> None:
    """Calls `predict_split` unless logits of the same weights, data and crops are there."""
    workdir = Workdir(run)
    wanted = {
        "weights_sha256": read_checksum(workdir.prediction_weights),
        "data_hash": store.data_hash,
        "split": split,
        "crops": crops,
        "blur": blur and workdir.preprocessing.blur_kernel > 0,
    }
    with contextlib.suppress(OSError), h5py.File(out) as file:
        if all(file.attrs.get(name) == value for name, value in wanted.items()):
            return
    predict_split(run, store, out, split=split, crops=crops, blur=blur)


# === Columns ===


def percent(right: np.ndarray, digits: int = 3) -> float:
    """Returns the accuracy in percent, of bool (N,)."""
    return round(100 * float(right.mean()), digits)


def accuracy_columns(right: np.ndarray) -> dict[str, float]:
    """Accuracy in percent with its 95 % interval, as columns of a table; of bool (N,)."""
    low, high = wilson_interval(int(right.sum()), len(right))
    return {"accuracy": percent(right), "low": round(100 * low, 2), "high": round(100 * high, 2)}


def runs_table(
    runs: Sequence[ScoredRun], inputs: Inputs, columns: Callable[[ScoredRun], Mapping[str, Any]]
) -> pd.DataFrame:
    """Makes a row of each run: network, cost, accuracy, and where all this comes from.

    Args:
        runs: scored ones.
        inputs: the data that they were scored on.
        columns: makes further columns of a run, of what the table is about.
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
            **accuracy_columns(run.score.right),
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
    """Reads the curves of runs: by name, and one after another with a column `run`.

    Raises:
        HccrError: no runs, or one without a whole epoch.
    """
    curves = {}
    for name, path in inputs.named_runs().items():
        curves[name] = pd.DataFrame(Workdir(path).read_history())
        if curves[name].empty:
            raise HccrError(f"{path} has no epoch that is done; train on.")
    together = [curve.assign(run=name) for name, curve in curves.items()]
    return curves, pd.concat(together, ignore_index=True)


def check_distinct(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuses to average runs that can't be told apart.

    Raises:
        HccrError: two rows are equal in all of these columns.
    """
    twice = rows[rows.duplicated(list(columns), keep=False)]
    if len(twice):
        raise HccrError(
            f"{len(twice)} runs differ in none of {', '.join(columns)}, so there's no telling what "
            "their mean is of; name one of them only."
        )
