"""Several runs' logits on one split, fused in many ways at once."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hccr_tf.evaluation.metrics import softmax
from hccr_tf.inference.fusion import PAPER_WEIGHTS, search_weights
from hccr_tf.inference.logits_file import LogitsFile, check_same_samples
from hccr_tf.papers.base import Inputs
from hccr_tf.papers.tables import predict_once
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import distinct_names


@dataclass(frozen=True)
class Fusion:
    """Which models are fused, and how.

    Attributes:
        models: their places in the ensemble.
        weights: one for each of them.
        crops: "five", "centre" or "whole".
        fused: "logits" or "probabilities".
    """

    models: tuple[int, ...]
    weights: tuple[float, ...]
    crops: str = "five"
    fused: str = "logits"


class Ensemble:
    """Logits of several runs on one split in every crop, and on the validation split."""

    def __init__(self, inputs: Inputs):
        if not inputs.runs:
            raise HccrError("Name the trained runs: --workdir RUN…")
        self.names = distinct_names(inputs.runs)
        self._inputs = inputs
        self._folder = inputs.out / "logits"

    def given(self, group: Sequence[int]) -> tuple[float, ...]:
        """The paper's weights of the group's models, made to sum to 1; equal ones if not three."""
        if len(self.names) != len(PAPER_WEIGHTS):
            return (1 / len(group),) * len(group)
        weights = np.array([PAPER_WEIGHTS[i] for i in group])
        return tuple((weights / weights.sum()).tolist())

    def found(self, group: Sequence[int]) -> tuple[float, ...]:
        """The weights that read most of the validation split."""
        return tuple(search_weights([self._logits(i, "validation", "five") for i in group])[0])

    def right(self, fusions: Sequence[Fusion]) -> list[np.ndarray]:
        """bool (N,) each: which samples a fusion reads rightly.

        Goes through the files in pieces: at the paper's scale a model's logits are 26 GB.
        """
        parts = [[] for _ in fusions]
        for crops in dict.fromkeys(fusion.crops for fusion in fusions):
            wanted = [i for i, fusion in enumerate(fusions) if fusion.crops == crops]
            used = sorted({model for i in wanted for model in fusions[i].models})
            kind = "none" if crops == "whole" else "five"
            dataset = "logits_center" if crops == "centre" else "logits"
            with contextlib.ExitStack() as stack:
                files = {}
                for model in used:
                    files[model] = LogitsFile(self._logits(model, self._inputs.split, kind))
                    stack.callback(files[model].close)
                check_same_samples(list(files.values()))
                first = files[used[0]]
                for rows in first.chunks():
                    logits = {m: file.logits(rows, dataset) for m, file in files.items()}
                    scores = {"logits": logits}
                    if any(fusions[i].fused == "probabilities" for i in wanted):
                        scores["probabilities"] = {m: softmax(z) for m, z in logits.items()}
                    labels = first.labels(rows)
                    for i in wanted:
                        fusion = fusions[i]
                        total = sum(
                            w * scores[fusion.fused][m]
                            for m, w in zip(fusion.models, fusion.weights, strict=True)
                        )
                        parts[i].append(total.argmax(axis=1) == labels)
        return [np.concatenate(part) for part in parts]

    def _logits(self, model: int, split: str, crops: str) -> Path:
        path = self._folder / f"{self.names[model]}-{split}-{crops}.h5"
        store = self._inputs.store
        if split != self._inputs.split:
            store = self._inputs.validation_store or store
        predict_once(self._inputs.runs[model], store, path, split, crops)
        return path
