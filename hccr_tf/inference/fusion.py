"""Weighted fusion of models by their logits (Kriuk & Kriuk 2024, section 3.2, figure 7)."""

import contextlib
import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.evaluation.metrics import Evaluation, most_probable
from hccr_tf.evaluation.plots import draw_confused_pairs
from hccr_tf.inference.logits_file import LogitsFile, check_same_samples
from hccr_tf.runs.workdir import command_line
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write, write_json

PAPER_WEIGHTS = (0.3, 0.2, 0.5)  # section 3.2: raw, 3×3, 7×7
NUM_PAIRS = 20
_TOP = 5


def default_weights(num_models: int) -> list[float]:
    """The paper's for three models, equal ones otherwise."""
    return list(PAPER_WEIGHTS) if num_models == 3 else [1 / num_models] * num_models


def check_weights(weights: Sequence[float], num_models: int) -> np.ndarray:
    """float64 (M,): weights, one a model, at least 0 and not all 0; else ValueError."""
    values = np.asarray(weights, np.float64)
    if len(values) != num_models:
        raise HccrError(f"{num_models} logits files need {num_models} weights, not {len(values)}.")
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise HccrError(f"Weights are at least 0 and not all 0; these are {list(weights)}.")
    return values


def search_weights(paths: Sequence[str | Path], step: float = 0.05) -> tuple[list[float], float]:
    """The weights that read most samples of validation files.

    Every combination on a grid that sums to 1 is tried; of equal ones the most even
    wins. Search on a validation split: weights found on the test set flatter it.

    Args:
        paths: a logits file for each model.
        step: of the grid.

    Returns:
        Weights and their top-1 accuracy in [0, 1].

    Raises:
        HccrError: files that don't belong together.
    """
    files = _open(paths)
    try:
        check_same_samples(files)
        parts = round(1 / step)
        grid = (
            np.array(
                [
                    (*combo, parts - sum(combo))
                    for combo in itertools.product(range(parts + 1), repeat=len(files) - 1)
                    if sum(combo) <= parts
                ]
            )
            / parts
        )
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
    finally:
        _close(files)


def fuse(
    paths: Sequence[str | Path], out: str | Path, *, weights: Sequence[float] | None = None
) -> dict:
    """Fuses logits files, writes the results and returns the metrics.

    Fused logits are the weighted sum of the models' logits; softmax and argmax follow
    (eqs. 4 and 5).

    Args:
        paths: a logits file for each model, of the same samples and charset.
        out: folder for `metrics.json`, `predictions.csv`, `per_class.csv`,
            `confused_pairs.csv` and `confused_pairs.png`.
        weights: one a model; the paper's for three, else equal ones.

    Returns:
        What `metrics.json` holds: under "models", by file, the metrics by dataset, and
        under "fused" the same of the fusion.

    Raises:
        HccrError: files that don't belong together, or weights that don't fit them.
    """
    files = _open(paths)
    try:
        values = check_weights(
            default_weights(len(files)) if weights is None else weights, len(files)
        )
        check_same_samples(files)
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        datasets = [d for d in files[0].datasets if all(d in f.datasets for f in files)]
        charset = files[0].charset
        metrics = {
            "num_samples": len(files[0]),
            "num_classes": len(charset),
            "charset_sha256": charset.sha256,
            "data_hash": _text(files[0].attributes.get("data_hash")),
            "split": _text(files[0].attributes.get("split")),
            "weights": values.tolist(),
            "command": command_line(),
            "models": {
                str(file.path): {
                    "recipe": _recipe_name(file),
                    **{d: _score(file, d).metrics() for d in file.datasets},
                }
                for file in files
            },
        }
        fused = {}
        for dataset in datasets:
            predictions = out / "predictions.csv" if dataset == "logits" else None
            fused[dataset] = _fuse_dataset(files, values, dataset, predictions)
        metrics["fused"] = {name: result.metrics() for name, result in fused.items()}
        _write_per_class(out / "per_class.csv", charset, fused["logits"])
        _write_pairs(out, charset, fused["logits"])
        # Last, so that a folder with metrics.json is complete.
        write_json(out / "metrics.json", metrics)
        return metrics
    finally:
        _close(files)


def metrics_table(metrics: dict) -> str:
    """The accuracies as a text table, the fusion last."""
    names = {"logits": "", "logits_center": " center crop"}
    rows = []
    for path, entry in metrics["models"].items():
        rows += [(f"{path}{_crop_text(d, entry, names)}", entry[d]) for d in names if d in entry]
    fused = metrics["fused"]
    weights = " ".join(f"{w:g}" for w in metrics["weights"])
    rows += [
        (f"fused ({weights}){_crop_text(d, fused, names)}", fused[d]) for d in names if d in fused
    ]
    columns = [k for k in ("top1", "top5", "top10") if k in rows[0][1]]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{c:>9}" for c in columns) + "   95 % interval of top1"]
    for name, entry in rows:
        low, high = entry["top1_interval95"]
        cells = "".join(f"{100 * entry[c]:8.2f}%" for c in columns)
        lines.append(f"{name:<{width}}{cells}   {100 * low:.2f}–{100 * high:.2f} %")
    return "\n".join(lines)


def _crop_text(dataset: str, entry: dict, names: dict[str, str]) -> str:
    if dataset == "logits":
        return " five crops" if "logits_center" in entry else ""
    return names[dataset]


def _open(paths: Sequence[str | Path]) -> list[LogitsFile]:
    if not paths:
        raise HccrError("Name at least one logits file.")
    if len({Path(path).resolve() for path in paths}) != len(paths):
        raise HccrError("A logits file is named twice; raise its weight instead.")
    files: list[LogitsFile] = []
    try:
        for path in paths:
            files.append(LogitsFile(path))
        return files
    except ValueError:
        _close(files)
        raise


def _close(files: Sequence[LogitsFile]) -> None:
    for file in files:
        file.close()


def _score(file: LogitsFile, dataset: str) -> Evaluation:
    result = Evaluation(len(file.charset))
    for rows in file.chunks():
        result.add(file.logits(rows, dataset), file.labels(rows))
    return result


def _fuse_dataset(files, weights, dataset, predictions: Path | None) -> Evaluation:
    charset = files[0].charset
    result = Evaluation(len(charset))
    top = min(_TOP, len(charset))
    with _csv_table(predictions) if predictions else contextlib.nullcontext() as table:
        if table:
            table.writerow(
                ["sample_id", "character", "predicted", "probability", "correct", f"top{top}"]
            )
        for rows in files[0].chunks():
            labels = files[0].labels(rows)
            fused = sum(
                w * f.logits(rows, dataset).astype(np.float64)
                for w, f in zip(weights, files, strict=True)
            )
            result.add(fused, labels)
            if table is None:
                continue
            best, probabilities = most_probable(fused, top)
            for i, sample_id in enumerate(files[0].sample_ids(rows)):
                first = int(best[i, 0])
                table.writerow(
                    [
                        sample_id,
                        charset.char(int(labels[i])),
                        charset.char(first),
                        f"{probabilities[i, 0]:.6f}",
                        int(first == labels[i]),
                        "".join(charset.char(int(c)) for c in best[i]),
                    ]
                )
    return result


@contextlib.contextmanager
def _csv_table(path: Path):
    """A csv writer of a file that is written atomically."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as handle,
    ):
        yield csv.writer(handle)


def _write_per_class(path: Path, charset: Charset, result: Evaluation) -> None:
    with _csv_table(path) as table:
        table.writerow(["character", "samples", "correct", "accuracy"])
        for i, (total, right) in enumerate(
            zip(result.class_total, result.class_correct, strict=True)
        ):
            accuracy = f"{right / total:.6f}" if total else ""
            table.writerow([charset.char(i), int(total), int(right), accuracy])


def _write_pairs(out: Path, charset: Charset, result: Evaluation) -> None:
    pairs = [
        (charset.char(true), charset.char(predicted), count, int(result.class_total[true]))
        for (true, predicted), count in sorted(
            result.confusions.items(), key=lambda item: (-item[1], item[0])
        )
    ]
    with _csv_table(out / "confused_pairs.csv") as table:
        table.writerow(["character", "predicted", "count", "samples"])
        table.writerows(pairs)
    draw_confused_pairs(pairs[:NUM_PAIRS], out / "confused_pairs.png")


def _recipe_name(file: LogitsFile) -> str | None:
    recipe = file.attributes.get("recipe")
    return json.loads(recipe).get("name") if recipe else None


def _text(value) -> str | None:
    return None if value is None else str(value)
