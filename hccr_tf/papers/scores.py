"""Runs scored on one split. Logits are kept, so that nothing is predicted twice."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hccr_tf.data.dataset import Dataset
from hccr_tf.evaluation.complexity import count_macs, size_mb
from hccr_tf.evaluation.metrics import softmax
from hccr_tf.evaluation.significance import wilson_interval
from hccr_tf.inference.logits_file import LogitsFile, open_same_samples
from hccr_tf.inference.predictor import Predictor, predict_split
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.models.weights import read_checksum
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import distinct_names


@dataclass(frozen=True)
class Inputs:
    """Data and runs of which an experiment makes its tables."""

    store: Dataset  # to test on
    split: str  # of the store
    runs: Sequence[Path]  # folders of trained runs, in the order in which they're shown
    out: Path  # folder for the results
    validation_store: Dataset  # whose validation split is looked at where something is chosen

    def named_runs(self) -> dict[str, Path]:
        """Returns the runs by distinct names; HccrError where there are none."""
        if not self.runs:
            raise HccrError("Name the trained runs: --workdir RUN…")
        return dict(zip(distinct_names(self.runs), self.runs, strict=True))

    def test_set(self) -> str:
        """Names the data that a row was measured on."""
        return f"{self.store.path.name} {self.split}, {len(self.store.charset)} classes"


@dataclass(frozen=True)
class Fusion:
    """Logits files whose weighted sum is read."""

    files: Sequence[Path]  # of the same samples
    weights: Sequence[float] = ()  # one for each of them; all 1 if empty
    dataset: str = "logits"  # or "logits_center", for the centre crop of five
    probabilities: bool = False  # whether probabilities are summed in place of logits
    bias: Any = 0  # float (C,), subtracted from the sum


@dataclass(frozen=True)
class Score:
    """Readings of a split by a run, or by several together."""

    read: np.ndarray  # int64 (N,), each sample's class under the run's own charset
    right: np.ndarray  # bool (N,), which samples are read rightly

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100 * float(self.right.mean())

    def columns(self) -> dict[str, float]:
        """Accuracy in percent with its 95 % interval, as columns of a table."""
        low, high = wilson_interval(int(self.right.sum()), len(self.right))
        limits = {"low": round(100 * low, 2), "high": round(100 * high, 2)}
        return {"accuracy": round(self.accuracy, 3), **limits}


def score_fusions(fusions: Sequence[Fusion]) -> list[Score]:
    """Scores many fusions at once; HccrError for files of different samples or charsets.

    Goes through the files in pieces: at a paper's scale a model's logits are 26 GB.
    """
    paths = dict.fromkeys(path for fusion in fusions for path in fusion.files)
    read: list[list[np.ndarray]] = [[] for _ in fusions]
    labels = []
    with open_same_samples(list(paths)) as opened:
        files, first = dict(zip(paths, opened, strict=True)), opened[0]
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
    """A run and its logits of whole images."""

    name: str  # distinct among the runs of an experiment
    workdir: Workdir
    logits: Path  # HDF5 file with the logits of the split
    score: Score
    parameters: int  # auxiliary heads left out
    size_mb: float  # of the parameters as float32
    macs: int  # multiply–accumulates for one image
    bias: np.ndarray | None  # float (C,), the classifier's; None without a dense main output


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
    run: Path, store: Dataset, out: Path, split: str, tta: str, *, blur: bool = True
) -> None:
    """Calls `predict_split` unless logits of the same weights, data and views are there."""
    workdir = Workdir(run)
    wanted = {
        "weights_sha256": read_checksum(workdir.prediction_weights),
        "data_hash": store.data_hash,
        "split": split,
        "tta": tta,
        "blur": blur and workdir.preprocessing.blur_kernel > 0,
    }
    with contextlib.suppress(HccrError), LogitsFile(out) as file:
        if all(file.attributes.get(name) == value for name, value in wanted.items()):
            return
    predict_split(run, store, out, split=split, tta=tta, blur=blur)
