"""A refined network's predictions and attention, step by step (Yang et al. 2017, figs. 1, 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from hccr_tf.data.dataset import Dataset, open_dataset
from hccr_tf.data.loading.loader import Loader
from hccr_tf.evaluation.metrics import most_probable
from hccr_tf.evaluation.significance import wilson_interval
from hccr_tf.images.contact_sheet import draw_sheet
from hccr_tf.inference.cam import overlay
from hccr_tf.inference.images import NamedImage
from hccr_tf.inference.predictor import Predictor, with_progress
from hccr_tf.models import ATTENTION, MAIN_OUTPUT, UNION, is_refined
from hccr_tf.pretrained import find_run
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write

_BATCH = 32
_SHOWN = 40


@dataclass(frozen=True)
class Steps:
    """What a network reads at each step.

    Attributes:
        logits: float32 (B, T, num_classes).
        attention: float32 (B, T, N), each summing to 1 over the places of all maps.
    """

    logits: np.ndarray
    attention: np.ndarray


class StepPredictor(Predictor):
    """A trained run with iterative refinement, all steps of it.

    Args:
        workdir: folder of the run.
        steps: T, if another than it was trained with.

    Attributes:
        steps: T.
        map_shapes: (h, w) of each map that is attended to, in the attention's order.

    Raises:
        HccrError: no run there, or one without refinement.
    """

    def __init__(self, workdir: str | Path, steps: int | None = None):
        model = Workdir(find_run(workdir)).recipe.model
        if not is_refined(model):
            raise HccrError(f"{workdir} holds a run of {model}, which is without refinement.")
        super().__init__(
            workdir,
            aux_outputs=True,
            model_args={"attention_outputs": True} | ({} if steps is None else {"steps": steps}),
        )
        self.steps = sum(name.startswith(ATTENTION) for name in self.model.output)
        maps = self.model.get_layer(UNION).input
        maps = maps if isinstance(maps, (list, tuple)) else [maps]
        self.map_shapes = [tuple(m.shape[1:3]) for m in maps]

    def read(self, images: np.ndarray) -> Steps:
        """Computes all steps for prepared images uint8 (B, H, W, 1)."""
        found = self.model.predict_on_batch(images)
        names = [f"step{t}" for t in range(1, self.steps)] + [MAIN_OUTPUT]
        logits = np.stack([np.asarray(found[name], np.float32) for name in names], axis=1)
        attention = [np.asarray(found[f"{ATTENTION}{t + 1}"]) for t in range(self.steps)]
        return Steps(logits, np.stack(attention, axis=1))

    def attention_map(self, attention: np.ndarray) -> np.ndarray:
        """Attention over the image: that of every map, spread evenly over its places.

        Args:
            attention: float (N,), of one image and step.

        Returns:
            float32 (H, W) of the prepared image; sums to 1 but for the interpolation.
        """
        height, width = self.preprocessing.image_shape[:2]
        total, begin = np.zeros((height, width), np.float32), 0
        for h, w in self.map_shapes:
            part = attention[begin : begin + h * w].reshape(h, w).astype(np.float32)
            begin += h * w
            enlarged = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
            total += enlarged * (h * w) / (height * width)
        return total


def write_steps(
    predictor: StepPredictor,
    images: Sequence[NamedImage],
    out: str | Path,
    *,
    top_k: int = 5,
    name: str = "refine",
) -> pd.DataFrame:
    """Writes what a network reads at each step, and where it looks, for some images.

    `NAME.png` has a row for each of the first 40 images: its attention at every step, blue for
    none and red for the most in any step, with the best character under it, then the image.
    `NAME.txt` lists the `top_k` characters with probabilities at every step, as the paper's
    figure 5; `NAME.csv` the same as a table.

    Args:
        predictor: the run.
        images: what it reads.
        out: folder to write to.
        top_k: characters at every step.
        name: of the files.

    Returns:
        The table: a row for each image, step and rank.

    Raises:
        HccrError: no images, or more characters than classes.
    """
    if not 1 <= top_k <= len(predictor.charset) or not images:
        raise HccrError(
            f"top_k is 1 to {len(predictor.charset)}, the number of classes, and there's at least "
            f"one image; not {top_k} and {len(images)}."
        )
    rows, tiles, texts, lines = [], [], [], []
    for number, image in enumerate(images):
        i = number % _BATCH
        if i == 0:
            batch = images[number : number + _BATCH]
            prepared = predictor.preprocessing.apply_many([p.image for p in batch])
            found = predictor.read(prepared)
            best, probabilities = most_probable(found.logits, top_k)
        maps = [predictor.attention_map(attention) for attention in found.attention[i]]
        # One scale for all steps of an image: evenly spread attention looks so.
        limits = (0.0, float(np.max(maps)))
        for t in range(predictor.steps):
            first = int(best[i, t, 0])
            tile = overlay(prepared[i], maps[t], limits=limits)
            if number < _SHOWN:
                tiles.append(tile)
            shown = f"{predictor.charset.char(first)} {100 * probabilities[i, t, 0]:.1f} %"
            if number < _SHOWN:
                texts.append(f"t = {t + 1}: {shown}")
            rows += [
                {
                    "image": image.name,
                    "step": t + 1,
                    "rank": rank + 1,
                    "character": predictor.charset.char(int(k)),
                    "probability": round(float(probabilities[i, t, rank]), 6),
                }
                for rank, k in enumerate(best[i, t])
            ]
        if number < _SHOWN:
            tiles.append(image.image)
            texts.append(image.label)
        lines += _as_figure_5(predictor, image, best[i], probabilities[i])
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    draw_sheet(tiles, texts, out / f"{name}.png", columns=predictor.steps + 1, tile=144)
    with atomic_write(out / f"{name}.txt") as temporary:
        temporary.write_text("\n".join(lines), "utf-8")
    table = pd.DataFrame(rows)
    with atomic_write(out / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def _as_figure_5(predictor, image, best, probabilities) -> list[str]:
    steps = range(predictor.steps)
    lines = [f"{image.label}  ({image.name})"]
    # A hanzi is two columns wide.
    lines.append("".join(f"{f't = {t + 1}':<13}" for t in steps).rstrip())
    for rank in range(best.shape[1]):
        cells = [
            f"{predictor.charset.char(int(best[t, rank]))}: {probabilities[t, rank]:.3f}"
            for t in steps
        ]
        lines.append("".join(f"{cell:<12}" for cell in cells).rstrip())
    return [*lines, ""]


@dataclass(frozen=True)
class StepCounts:
    """What the steps do to a split.

    Attributes:
        table: a row a step: accuracy with its 95 % interval, how many samples are read
            rightly that the step before read wrongly (`corrected`), and the reverse
            (`broken`); the same against the first step.
        read: int32 (N, T), the classes read.
        labels: int32 (N,).
        indices: int64 (N,), positions in the data.
    """

    table: pd.DataFrame
    read: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    def changed(self, first_right: bool) -> np.ndarray:
        """Rows wrong at the first and right at the last step, or the reverse."""
        right = self.read == self.labels[:, None]
        return np.flatnonzero((right[:, 0] == first_right) & (right[:, -1] != first_right))


def count_steps(
    predictor: StepPredictor, data: str | Path | Dataset, split: str = "test", batch_size: int = 64
) -> StepCounts:
    """Reads a split's whole images and counts what each step corrects and breaks.

    Raises:
        HccrError: a charset that doesn't cover the data, an empty split.
    """
    loader = Loader(
        open_dataset(data), split, predictor.preprocessing, batch_size, charset=predictor.charset
    )
    parts = []
    for batch in with_progress(loader):
        read = predictor.read(batch.images).logits.argmax(axis=2).astype(np.int32)
        parts.append((read, batch.labels, batch.indices))
    read, labels, indices = map(np.concatenate, zip(*parts, strict=True))
    right = read == labels[:, None]
    rows = []
    for t in range(predictor.steps):
        low, high = wilson_interval(int(right[:, t].sum()), len(labels))
        before = right[:, max(0, t - 1)]
        rows.append(
            {
                "step": t + 1,
                "accuracy": round(100 * right[:, t].mean(), 3),
                "low": round(100 * low, 2),
                "high": round(100 * high, 2),
                "corrected": int((right[:, t] & ~before).sum()),
                "broken": int((~right[:, t] & before).sum()),
                "corrected_since_first": int((right[:, t] & ~right[:, 0]).sum()),
                "broken_since_first": int((~right[:, t] & right[:, 0]).sum()),
            }
        )
    return StepCounts(pd.DataFrame(rows), read, labels, indices)
