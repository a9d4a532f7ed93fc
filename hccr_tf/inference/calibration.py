"""Confidence that is true to frequencies: one temperature for a run (Guo et al. 2017).

Of the images that are read with a probability of 0.8, eight in ten should be read rightly.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hccr_tf.data.dataset import Dataset
from hccr_tf.data.opening import open_dataset
from hccr_tf.data.store.splits import draw_per_class
from hccr_tf.evaluation.metrics import softmax
from hccr_tf.evaluation.plots import draw_reliability
from hccr_tf.inference.recognizer import CALIBRATION, Recognizer
from hccr_tf.pretrained import FOLDER, find_run
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import write_csv, write_json

_BINS = 15
_BATCH = 32
_FEWEST = 20
_FEWEST_WRONG = 10  # of fewer wrong answers a confidence can't be told to a third


def find_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature that makes labels (N,) most likely by logits (N, C), from 0.1 to 10.

    Below 1, as a few images that are all read rightly would ask for, it isn't lower than it takes
    to claim (right + 1) / (N + 2) on the average, Laplace's rule of succession. Classes that
    don't compete have logits of -inf.
    """
    logits = np.asarray(logits, np.float64)
    rows = np.arange(len(labels))
    finite = np.where(np.isfinite(logits), logits, 0)

    def too_high(temperature):
        # The likelihood has one maximum, where the true logit is the mean of all, weighted by
        # their probabilities.
        means = (softmax(logits / temperature) * finite).sum(axis=1)
        return logits[rows, labels].mean() > means.mean()

    temperature = _bisect(0.1, 10.0, too_high)
    most = (int((logits.argmax(axis=1) == labels).sum()) + 1) / (len(labels) + 2)

    def modest(temperature):  # claims fall as the temperature rises
        return softmax(logits / temperature).max(axis=1).mean() <= most

    if temperature >= 1 or modest(temperature):
        return temperature
    return _bisect(temperature, 1.0, modest)


def _bisect(low: float, high: float, too_high: Callable[[float], bool]) -> float:
    """Returns the least number, within a thousandth, from which on something holds."""
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if too_high(middle) else (middle, high)
    return high


def reliability(probabilities: np.ndarray, is_right: np.ndarray) -> tuple[pd.DataFrame, float]:
    """Counts how often images are read rightly (N,), by the probability that was claimed (N,).

    Returns:
        A row for each of fifteen equal ranges that isn't empty (`low`, `high`, `samples`,
        `confidence`, `accuracy`), and the expected calibration error: the mean difference of
        the last two, by samples.
    """
    edges = np.linspace(0, 1, _BINS + 1)
    bins = np.clip(np.digitize(probabilities, edges) - 1, 0, _BINS - 1)
    columns = {"low": edges[bins], "high": edges[bins + 1], "claimed": probabilities}
    ranges = pd.DataFrame(columns | {"is_right": is_right}).groupby(["low", "high"])
    table = ranges.agg(
        samples=("claimed", "size"), confidence=("claimed", "mean"), accuracy=("is_right", "mean")
    )
    table = table.reset_index().round(4)
    gaps = abs(table["confidence"] - table["accuracy"])
    return table, float((gaps * table["samples"]).sum() / len(is_right))


def calibrate(
    workdir: str | Path,
    data: str | Path | Dataset,
    split: str = "validation",
    *,
    level: int | None = None,
    per_class: int | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Finds a run's temperature and reliability curve and writes them into the run.

    Nothing is written where the calibration error would rise, of characters that the temperature
    wasn't found on, or where it was found on fewer than ten wrong answers.

    Args:
        workdir: the run.
        data: a dataset or its folder, of images that the run hasn't learnt; characters that it
            doesn't know, or that don't compete, are left out and counted.
        split: of the data.
        level: as for `Recognizer`.
        per_class: so many images of each character; all if None.
        seed: of the halves and of `per_class`.

    Returns:
        `temperature`, found on one half of the characters; of the others `samples`, `accuracy`,
        expected calibration errors `ece_before`, as the run was, and `ece_after`; `left_out`; and
        `refused`: why nothing was written, or None.

    Raises:
        HccrError: fewer than 20 images or two characters are left, or the run is the package's own.
    """
    folder = find_run(workdir)
    if folder == FOLDER:
        raise HccrError(
            "The package's own weights are calibrated, and calibrating them anew would change the "
            "package; make a run of your own first: hccr pack recogniser --out RUN."
        )
    dataset, recognizer = open_dataset(data), Recognizer(folder, level=level)
    charset, competing = recognizer.charset, recognizer.competing
    classes = np.array([charset.index(c) if c in charset else -1 for c in dataset.charset])
    indices = dataset.indices(split)
    labels = classes[dataset.labels_for(dataset.charset, indices)]
    known = np.flatnonzero(labels >= 0)
    drawn = known if per_class is None else known[draw_per_class(labels[known], per_class, seed)]
    kept = drawn[competing[labels[drawn]]]
    left_out = len(labels) - len(known) + len(drawn) - len(kept)
    indices, labels = indices[kept], labels[kept]
    if len(labels) < _FEWEST or len(np.unique(labels)) < 2:
        raise HccrError(
            f"{len(labels)} images of {split} are too few to calibrate on; {_FEWEST} of two "
            f"characters are needed, and {left_out} of others don't count. Prepare more with a "
            "larger --validation-fraction, or take another --split that the run hasn't learnt from."
        )
    chunks = np.split(indices, range(_BATCH, len(indices), _BATCH))
    logits = np.concatenate([recognizer.logits(dataset.images(chunk)) for chunk in chunks])
    logits[:, ~competing] = -np.inf

    # By characters, not by images: confidence must hold for characters it wasn't fitted to.
    characters = np.random.default_rng(seed).permutation(np.unique(labels))
    fitted = np.isin(labels, characters[: -(-len(characters) // 2)])
    temperature = round(find_temperature(logits[fitted], labels[fitted]), 4)
    shown, truth = logits[~fitted], labels[~fitted]
    is_right = shown.argmax(axis=1) == truth
    num_wrong = int((logits[fitted].argmax(axis=1) != labels[fitted]).sum())
    curves, errors = {}, {}
    for name, divisor in (("before", recognizer.temperature), ("after", temperature)):
        claimed = softmax(shown / divisor).max(axis=1)
        curves[name], errors[name] = reliability(claimed, is_right)
    result = {
        "temperature": temperature,
        "ece_before": round(errors["before"], 5),
        "ece_after": round(errors["after"], 5),
        "accuracy": round(float(is_right.mean()), 5),
        "samples": len(truth),
        "left_out": left_out,
    }
    refused = None
    if num_wrong < _FEWEST_WRONG:
        refused = f"it rests on {num_wrong} wrong answers, fewer than {_FEWEST_WRONG}"
    elif errors["after"] > errors["before"]:
        refused = "the calibration error would rise"
    if refused is not None:
        return {**result, "refused": refused}
    about = {"data_hash": dataset.data_hash, "split": split, "level": level, "seed": seed}
    write_json(folder / CALIBRATION, {**result, **about})
    both = [table.assign(calibration=name) for name, table in curves.items()]
    write_csv(folder / "reliability.csv", pd.concat(both))
    draw_reliability(curves, folder / "reliability.png")
    return {**result, "refused": None}
