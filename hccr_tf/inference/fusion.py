"""Weighted fusion of models by their logits (Kriuk & Kriuk 2024, section 3.2, figure 7)."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.evaluation.metrics import Evaluation, most_probable
from hccr_tf.evaluation.plots import draw_confused_pairs
from hccr_tf.inference.logits_file import LOGITS, open_same_samples
from hccr_tf.runs.workdir import command_line
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import write_json, write_rows

PAPER_WEIGHTS = (0.3, 0.2, 0.5)  # section 3.2: raw, 3×3, 7×7
_NUM_PAIRS = 20
_TOP = 5


def search_weights(paths: Sequence[str | Path], step: float = 0.05) -> tuple[list[float], float]:
    """The weights that read most samples of validation files.

    Every combination that sums to 1 on a grid of this step is tried; of equal ones the most
    even wins. Search on a validation split: weights found on the test set flatter it.

    Returns:
        Weights, one a file, and their top-1 accuracy in [0, 1].

    Raises:
        HccrError: files that don't belong together.
    """
    parts = round(1 / step)
    with open_same_samples(paths) as files:
        shares = itertools.product(range(parts + 1), repeat=len(files) - 1)
        whole = [(*some, parts - sum(some)) for some in shares if sum(some) <= parts]
        grid = np.array(whole) / parts
        correct = np.zeros(len(grid), np.int64)
        for rows in files[0].chunks():
            labels = files[0].labels(rows)
            stacked = [file.logits(rows) for file in files]
            for i, weights in enumerate(grid):
                fused = sum(w * z for w, z in zip(weights, stacked, strict=True))
                correct[i] += (fused.argmax(axis=1) == labels).sum()
        evenness = -((grid - 1 / len(files)) ** 2).sum(axis=1)
        best = max(range(len(grid)), key=lambda i: (correct[i], evenness[i]))
        return grid[best].tolist(), float(correct[best] / len(files[0]))


def fuse(
    paths: Sequence[str | Path], out: str | Path, *, weights: Sequence[float] | None = None
) -> dict:
    """Fuses logits files by the weighted sum of their logits (eqs. 4 and 5).

    Args:
        paths: a logits file for each model, of the same samples and charset.
        out: folder for `metrics.json`, `predictions.csv`, `per_class.csv`,
            `confused_pairs.csv` and `confused_pairs.png`.
        weights: one a model; the paper's for three, else equal ones.

    Returns:
        What `metrics.json` holds: metrics by dataset under "models", by file, and "fused".

    Raises:
        HccrError: files that don't belong together, or weights that don't fit them.
    """
    with open_same_samples(paths) as files:
        values = _weights(weights, len(files))
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        charset, attributes = files[0].charset, files[0].attributes
        about = {n: str(attributes[n]) if n in attributes else None for n in ("data_hash", "split")}
        metrics: dict[str, Any] = {
            "num_samples": len(files[0]),
            "num_classes": len(charset),
            "charset_sha256": charset.sha256,
            **about,
            "weights": values.tolist(),
            "command": command_line(),
            "models": {
                str(file.path): {
                    "recipe": file.recipe_name,
                    **{d: _evaluate([file], [1.0], d).metrics() for d in file.datasets},
                }
                for file in files
            },
        }
        head = ["sample_id", "character", "predicted", "probability", "correct"]
        head.append(f"top{min(_TOP, len(charset))}")
        result = Evaluation(len(charset))
        write_rows(out / "predictions.csv", head, _predictions(files, values, result))
        metrics["fused"] = {"logits": result.metrics()}
        for dataset in LOGITS[1:]:
            if all(dataset in file.datasets for file in files):
                metrics["fused"][dataset] = _evaluate(files, values, dataset).metrics()
        totals = zip(charset, result.class_total, result.class_correct, strict=True)
        per_class = ((c, n, right, f"{right / n:.6f}" if n else "") for c, n, right in totals)
        head = ["character", "samples", "correct", "accuracy"]
        write_rows(out / "per_class.csv", head, per_class)
        most_frequent = sorted(result.confusions.items(), key=lambda item: (-item[1], item[0]))
        pairs = [
            (charset.char(true), charset.char(read), count, int(result.class_total[true]))
            for (true, read), count in most_frequent
        ]
        head = ["character", "predicted", "count", "samples"]
        write_rows(out / "confused_pairs.csv", head, pairs)
        draw_confused_pairs(pairs[:_NUM_PAIRS], out / "confused_pairs.png")
        # Last, so that a folder with metrics.json is complete.
        write_json(out / "metrics.json", metrics)
        return metrics


def metrics_table(metrics: dict) -> str:
    """The accuracies as a text table, the fusion last."""
    weights = " ".join(f"{w:g}" for w in metrics["weights"])
    rows = []
    for name, entry in [*metrics["models"].items(), (f"fused ({weights})", metrics["fused"])]:
        has_center = "logits_center" in entry
        rows.append((f"{name} five crops" if has_center else name, entry["logits"]))
        if has_center:
            rows.append((f"{name} center crop", entry["logits_center"]))
    columns = [k for k in ("top1", "top5", "top10") if k in rows[0][1]]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{c:>9}" for c in columns) + "   95 % interval of top1"]
    for name, entry in rows:
        low, high = entry["top1_interval95"]
        cells = "".join(f"{100 * entry[c]:8.2f}%" for c in columns)
        lines.append(f"{name:<{width}}{cells}   {100 * low:.2f}–{100 * high:.2f} %")
    return "\n".join(lines)


def _weights(weights: Sequence[float] | None, num_models: int) -> np.ndarray:
    if weights is None:
        weights = PAPER_WEIGHTS if num_models == 3 else [1 / num_models] * num_models
    values = np.asarray(weights, np.float64)
    if len(values) != num_models:
        raise HccrError(f"{num_models} logits files need {num_models} weights, not {len(values)}.")
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise HccrError(f"Weights are at least 0 and not all 0; these are {list(weights)}.")
    return values


def _fused(files, weights, dataset: str) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yields rows, labels int (B,) and fused logits float64 (B, C)."""
    for rows in files[0].chunks():
        weighted = zip(weights, files, strict=True)
        fused = sum(w * f.logits(rows, dataset).astype(np.float64) for w, f in weighted)
        yield rows, files[0].labels(rows), fused


def _evaluate(files, weights, dataset: str) -> Evaluation:
    result = Evaluation(len(files[0].charset))
    for _, labels, fused in _fused(files, weights, dataset):
        result.add(fused, labels)
    return result


def _predictions(files, weights, result: Evaluation) -> Iterator[list]:
    """Yields a row of predictions.csv for each sample, and counts it."""
    charset = files[0].charset
    for rows, labels, fused in _fused(files, weights, "logits"):
        result.add(fused, labels)
        best, probabilities = most_probable(fused, _TOP)
        for i, sample_id in enumerate(files[0].sample_ids(rows)):
            characters = [charset.char(int(c)) for c in best[i]]
            yield [
                sample_id,
                charset.char(int(labels[i])),
                characters[0],
                f"{probabilities[i, 0]:.6f}",
                int(best[i, 0] == labels[i]),
                "".join(characters),
            ]
