"""Trained runs scored on one split, with their logits kept so that nothing is done twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd

from hccr_tf.data.store.store import Store
from hccr_tf.evaluation.complexity import count_macs, size_mb
from hccr_tf.evaluation.metrics import Evaluation
from hccr_tf.evaluation.significance import wilson_interval
from hccr_tf.inference.logits_file import LogitsFile, check_same_samples
from hccr_tf.inference.predictor import Predictor, predict_split
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.models.weights import read_checksum
from hccr_tf.papers.base import Inputs
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import distinct_names


@dataclass
class ScoredRun:
    """A run and its logits of whole images.

    Attributes:
        name: distinct among the runs of an experiment.
        workdir: its folder.
        logits: HDF5 file with the logits of the split.
        parameters: of the network without auxiliary heads.
        size_mb: of these as float32.
        macs: multiply–accumulates for one image.
        bias: float (C,), the classifier's; None where the main output is no dense layer.
    """

    name: str
    workdir: Workdir
    logits: Path
    parameters: int
    size_mb: float
    macs: int
    bias: np.ndarray | None


def score_runs(inputs: Inputs) -> list[ScoredRun]:
    """Predicts the split with every run; logits of the same weights and data are kept.

    Raises:
        HccrError: no runs, or one without weights, or whose charset doesn't cover the store.
    """
    if not inputs.runs:
        raise HccrError("Name the trained runs: --workdir RUN…")
    scored = []
    for name, path in zip(distinct_names(inputs.runs), inputs.runs, strict=True):
        predictor = Predictor(path)
        logits = inputs.out / "logits" / f"{name}.h5"
        predict_once(path, inputs.store, logits, inputs.split, "none")
        model = predictor.model
        classifier = model.get_layer(MAIN_OUTPUT)
        bias = None
        if isinstance(classifier, keras.layers.Dense):
            bias = keras.ops.convert_to_numpy(classifier.bias)
        scored.append(
            ScoredRun(
                name,
                predictor.workdir,
                logits,
                model.count_params(),
                size_mb(model),
                count_macs(model),
                bias,
            )
        )
    return scored


def predict_once(
    run: Path, store: Store, out: Path, split: str, crops: str, *, blur: bool = True
) -> None:
    """Writes a split's logits unless those of the same weights, data and crops are there.

    Args:
        run, store, out, split, crops, blur: as for `predict_split`.
    """
    workdir = Workdir(run)
    wanted = {
        "weights_sha256": read_checksum(workdir.prediction_weights),
        "data_hash": store.data_hash,
        "split": split,
        "crops": crops,
        "blur": blur and workdir.preprocessing.blur_kernel > 0,
    }
    try:
        with h5py.File(out) as file:
            if all(file.attrs.get(name) == value for name, value in wanted.items()):
                return
    except OSError:
        pass
    out.parent.mkdir(parents=True, exist_ok=True)
    predict_split(run, store, out, split=split, crops=crops, blur=blur)


@dataclass(frozen=True)
class Score:
    """What a run, or several together, make of a split.

    Attributes:
        evaluation: the counts.
        read: int64 (N,), what each sample is read as, under the run's own charset.
        right: bool (N,), which samples are read rightly.
    """

    evaluation: Evaluation
    read: np.ndarray
    right: np.ndarray


def evaluate(runs: Sequence[ScoredRun], *, without_bias: bool = False) -> Score:
    """Scores one run, or several with their logits averaged.

    Args:
        runs: one or more, of the same samples.
        without_bias: whether the classifiers' biases are reset to 0.

    Raises:
        HccrError: runs with different samples or charsets, or no bias to reset.
    """
    if without_bias and any(run.bias is None for run in runs):
        raise HccrError("The bias is reset in networks that end in a dense layer only.")
    files = [LogitsFile(run.logits) for run in runs]
    try:
        check_same_samples(files)
        result, read, right = Evaluation(len(files[0].charset)), [], []
        for rows in files[0].chunks():
            logits = sum(
                file.logits(rows) - (run.bias if without_bias else 0)
                for file, run in zip(files, runs, strict=True)
            )
            labels = files[0].labels(rows)
            result.add(logits, labels)
            read.append(logits.argmax(axis=1))
            right.append(read[-1] == labels)
        return Score(result, np.concatenate(read), np.concatenate(right))
    finally:
        for file in files:
            file.close()


def percent_right(right: np.ndarray) -> float:
    """Accuracy in percent, of bool (N,)."""
    return round(100 * float(right.mean()), 3)


def accuracy_columns(right: np.ndarray) -> dict[str, float]:
    """Accuracy in percent with its 95 % interval, as columns of a table; of bool (N,)."""
    low, high = wilson_interval(int(right.sum()), len(right))
    return {
        "accuracy": percent_right(right),
        "low": round(100 * low, 2),
        "high": round(100 * high, 2),
    }


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


def percent(result: Evaluation) -> float:
    """Top-1 accuracy in percent."""
    return 100 * result.correct[1] / result.total


def with_interval(result: Evaluation) -> dict[str, float]:
    """Top-1 accuracy in percent with its 95 % interval, as columns of a table."""
    low, high = result.metrics()["top1_interval95"]
    return {
        "accuracy": round(percent(result), 3),
        "low": round(100 * low, 2),
        "high": round(100 * high, 2),
    }


def test_set(inputs: Inputs) -> str:
    """What a row was measured on."""
    return f"{inputs.store.path.name} {inputs.split}, {len(inputs.store.charset)} classes"


def beginnings(run: ScoredRun) -> dict[str, object]:
    """What a run was trained on and began with, as columns of a table."""
    recipe, facts = run.workdir.recipe, run.workdir.read_run()
    begins = recipe.weights or "fresh weights"
    if "init_recipe" in facts:
        begins = f"{facts['init_recipe']} on data {facts['init_data_hash'][:8]}"
    return {
        "samples_per_class": recipe.samples_per_class or "all",
        "begins_with": begins,
        "stages": len(recipe.all_stages()),
    }


def provenance(run: ScoredRun, inputs: Inputs) -> dict[str, object]:
    """Where a row comes from, as columns of a table."""
    return {
        "samples": len(inputs.store.indices(inputs.split)),
        "data_hash": inputs.store.data_hash[:16],
        **_training(run.workdir),
    }


def runs_table(paths: Sequence[Path]) -> pd.DataFrame:
    """How runs were trained, a row each; `data_hash` is of the data they learnt from."""
    rows = []
    for name, path in zip(distinct_names(paths), paths, strict=True):
        workdir = Workdir(path)
        trained_on = workdir.read_run()["data_hash"][:16]
        rows.append(
            {
                "run": name,
                "recipe": workdir.recipe.name,
                "data_hash": trained_on,
                **_training(workdir),
            }
        )
    return pd.DataFrame(rows)


def _training(workdir: Workdir) -> dict[str, object]:
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


def histories(runs: Sequence[ScoredRun]) -> dict[str, pd.DataFrame]:
    """The curves of runs, by name."""
    return {run.name: pd.DataFrame(run.workdir.read_history()) for run in runs}


def together(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Curves one after another, with a column `run`."""
    return pd.concat([h.assign(run=n) for n, h in curves.items()], ignore_index=True)
