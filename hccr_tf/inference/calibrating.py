"""Calibrates a run on a split of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.data.splits import draw_per_class
from hccr_tf.data.store import Store
from hccr_tf.data.strokes import StrokeStore
from hccr_tf.evaluation import softmax
from hccr_tf.files import atomic_write
from hccr_tf.inference.calibration import find_temperature, reliability, write_calibration
from hccr_tf.inference.recognizer import Recognizer
from hccr_tf.plots import draw_reliability
from hccr_tf.pretrained import FOLDER, find_run

_BATCH = 32
_FEWEST = 20


def calibrate(
    workdir: str | Path,
    store: Store | StrokeStore,
    split: str = "validation",
    *,
    level: int | None = None,
    per_class: int | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Finds a run's temperature, writes it into the run, and draws the reliability curve.

    Args:
        workdir: the run.
        store: pictures that it hasn't learnt; characters that it doesn't know, or that don't
            compete, are left out and counted.
        split: of the store.
        level: as for `Recognizer`.
        per_class: so many pictures of each character; all if None.
        seed: of the halves and of `per_class`.

    Returns:
        `temperature`, found on one half of the characters; of the others `samples`, `accuracy`, expected
        calibration errors `ece_before` and `ece_after`; `left_out`.

    Raises:
        ValueError: fewer than 20 pictures or two characters are left, or the run is the package's own.
    """
    folder = find_run(workdir)
    if folder == FOLDER:
        raise ValueError(
            "The package's own weights are calibrated, and calibrating them anew would change the "
            "package; make a run of your own first: hccr pack recogniser --out RUN."
        )
    recognizer = Recognizer(folder, level=level)
    indices = store.indices(split)
    labels = store.labels_for(store.charset, indices)
    known = np.array([c in recognizer.charset for c in store.charset])
    kept = known[labels]
    left_out = int((~kept).sum())
    indices, labels = indices[kept], labels[kept]
    if per_class is not None:
        drawn = draw_per_class(labels, per_class, seed)
        indices, labels = indices[drawn], labels[drawn]
    competing = recognizer.competing
    table = np.array([recognizer.charset.index(c) if c in recognizer.charset else -1
                      for c in store.charset])  # fmt: skip
    labels = table[labels]
    kept = competing[labels]
    left_out += int((~kept).sum())
    indices, labels = indices[kept], labels[kept]
    if len(labels) < _FEWEST or len(np.unique(labels)) < 2:
        raise ValueError(
            f"{len(labels)} pictures of {split} are too few to calibrate on; {_FEWEST} of two "
            f"characters are needed, and {left_out} of other characters don't count. Prepare more with a larger "
            "--validation-fraction, or take another --split that the run hasn't learnt from."
        )
    logits = np.empty((len(labels), len(recognizer.charset)), np.float32)
    for start in range(0, len(labels), _BATCH):
        chunk = indices[start : start + _BATCH]
        logits[start : start + len(chunk)] = recognizer.logits(store.images(chunk))
    logits[:, ~competing] = -np.inf

    # By characters, not by pictures: confidence must hold for characters it wasn't fitted to.
    classes = np.random.default_rng(seed).permutation(np.unique(labels))
    fitted = np.isin(labels, classes[: -(-len(classes) // 2)])
    temperature = find_temperature(logits[fitted], labels[fitted])
    shown, truth = logits[~fitted], labels[~fitted]
    right = shown.argmax(axis=1) == truth
    curves, errors = {}, {}
    for name, divisor in (("before", 1.0), ("after", temperature)):
        claimed = softmax(shown / divisor).max(axis=1)
        curves[name], errors[name] = reliability(claimed, right)
    result = {
        "temperature": temperature,
        "ece_before": round(errors["before"], 5),
        "ece_after": round(errors["after"], 5),
        "accuracy": round(float(right.mean()), 5),
        "samples": len(truth),
        "left_out": left_out,
    }
    write_calibration(
        folder, temperature, **{k: v for k, v in result.items() if k != "temperature"},
        data_hash=store.data_hash, split=split, level=level, seed=seed,
    )  # fmt: skip
    both = [table.assign(calibration=name) for name, table in curves.items()]
    import pandas as pd

    with atomic_write(folder / "reliability.csv") as temporary:
        pd.concat(both).to_csv(temporary, index=False)
    draw_reliability(curves, folder / "reliability.png")
    return result
