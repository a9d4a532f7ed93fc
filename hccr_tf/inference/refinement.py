"""A refined network's predictions and attention, step by step (Yang et al. 2017, figs. 1, 5)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import keras
import numpy as np
import pandas as pd

from hccr_tf.data.dataset import Dataset
from hccr_tf.data.loading.loader import Loader
from hccr_tf.evaluation.metrics import most_probable
from hccr_tf.evaluation.significance import wilson_interval
from hccr_tf.images.contact_sheet import draw_sheet
from hccr_tf.inference.cam import NamedImage, overlay, sample_images
from hccr_tf.inference.predictor import Predictor
from hccr_tf.models import ATTENTION, MAIN_OUTPUT, UNION, is_refined
from hccr_tf.pretrained import find_run
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write, write_csv
from hccr_tf.utils.progress import track

_BATCH = 32
_SHOWN = 40


class Steps(NamedTuple):
    """What a network reads at each step."""

    logits: np.ndarray  # float32 (B, T, num_classes)
    attention: np.ndarray  # float32 (B, T, N), each summing to 1 over the places of all maps


class StepPredictor(Predictor):
    """A trained run with iterative refinement, all T steps of it: its own T or another.

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
        maps = keras.tree.flatten(self.model.get_layer(UNION).input)
        self.map_shapes = [tuple(m.shape[1:3]) for m in maps]

    def read(self, images: np.ndarray) -> Steps:
        """Computes all steps for prepared images uint8 (B, H, W, 1)."""
        found = self.model.predict_on_batch(images)
        names = [f"step{t}" for t in range(1, self.steps)] + [MAIN_OUTPUT]
        logits = np.stack([np.asarray(found[name], np.float32) for name in names], axis=1)
        attention = [np.asarray(found[f"{ATTENTION}{t + 1}"]) for t in range(self.steps)]
        return Steps(logits, np.stack(attention, axis=1))

    def attention_map(self, attention: np.ndarray) -> np.ndarray:
        """Spreads the attention (N,) of one image and step over its pixels, to a sum of about 1."""
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
    """Writes what a network reads at each step, and where it looks, for at least one image.

    `NAME.png` has a row for each of the first 40 images: its attention at every step, blue for
    none and red for the most in any step, with the best character under it, then the image.
    `NAME.txt` lists the `top_k` characters with probabilities at every step, as the paper's
    figure 5; `NAME.csv` the same as the table that is returned, a row for each image, step, rank.

    Raises:
        HccrError: `top_k` is 0 or more than there are classes.
    """
    if not 1 <= top_k <= len(predictor.charset):
        raise HccrError(
            f"top_k is 1 to {len(predictor.charset)}, the number of classes; not {top_k}."
        )
    rows, tiles, lines = [], [], []
    for number, image in enumerate(images):
        i = number % _BATCH
        if i == 0:
            batch = images[number : number + _BATCH]
            prepared = predictor.preprocessing.apply_many([p.image for p in batch])
            steps = predictor.read(prepared)
            best, probabilities = most_probable(steps.logits, top_k)
        maps = [predictor.attention_map(attention) for attention in steps.attention[i]]
        # One scale for all steps of an image: evenly spread attention looks so.
        limits = (0.0, float(np.max(maps)))
        # Figure 5: a column a step, a row a rank. A hanzi is two columns wide.
        figure = [[f"{f't = {t + 1}':<13}" for t in range(predictor.steps)]]
        figure += [[] for _ in range(top_k)]
        for t, rank in np.ndindex(best.shape[1:]):
            character = predictor.charset.char(int(best[i, t, rank]))
            probability = float(probabilities[i, t, rank])
            figure[1 + rank].append(f"{f'{character}: {probability:.3f}':<12}")
            if rank == 0 and number < _SHOWN:
                text = f"t = {t + 1}: {character} {100 * probability:.1f} %"
                tiles.append((overlay(prepared[i], maps[t], limits=limits), text))
            rows.append((image.name, t + 1, rank + 1, character, round(probability, 6)))
        if number < _SHOWN:
            tiles.append((image.image, image.label))
        lines += [f"{image.label}  ({image.name})", *("".join(row).rstrip() for row in figure), ""]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    drawn, texts = zip(*tiles, strict=True)
    draw_sheet(drawn, texts, out / f"{name}.png", columns=predictor.steps + 1, tile=144)
    with atomic_write(out / f"{name}.txt") as temporary:
        temporary.write_text("\n".join(lines), "utf-8")
    table = pd.DataFrame(rows, columns=["image", "step", "rank", "character", "probability"])
    write_csv(out / f"{name}.csv", table)
    return table


class StepCounts(NamedTuple):
    """What the steps do to a split.

    The table has a row a step: accuracy with its 95 % interval, how many samples are read rightly
    that the step before read wrongly (`corrected`), the reverse (`broken`), and the same against
    the first step.
    """

    table: pd.DataFrame
    read: np.ndarray  # int (N, T), the classes read
    labels: np.ndarray  # int32 (N,)
    indices: np.ndarray  # int64 (N,), positions in the data

    def changed(self, first_right: bool) -> np.ndarray:
        """Rows wrong at the first and right at the last step, or the reverse."""
        right = self.read == self.labels[:, None]
        return np.flatnonzero((right[:, 0] == first_right) & (right[:, -1] != first_right))


def write_changed(
    predictor: StepPredictor,
    counts: StepCounts,
    dataset: Dataset,
    out: str | Path,
    *,
    top_k: int = 5,
    most: int = 8,
) -> dict[str, pd.DataFrame]:
    """Writes, as `write_steps` does, samples that refinement corrects, and that it breaks.

    Returns:
        The tables by their files' names, "corrected" and "broken"; none where there is no sample.
    """
    tables = {}
    for name, first_right in (("corrected", False), ("broken", True)):
        rows = counts.changed(first_right)[:most]
        if len(rows):
            samples = sample_images(dataset, counts.indices[rows])
            tables[name] = write_steps(predictor, samples, out, top_k=top_k, name=name)
    return tables


def count_steps(predictor: StepPredictor, dataset: Dataset, split: str = "test") -> StepCounts:
    """Reads a split's whole images and counts what each step corrects and breaks.

    Raises:
        HccrError: a charset that doesn't cover the data, an empty split.
    """
    loader = Loader(dataset, split, predictor.preprocessing, 2 * _BATCH, charset=predictor.charset)
    batches = track(loader.batches(), f"predicting {split}", loader.steps_per_epoch)
    read = np.concatenate([predictor.read(b.images).logits.argmax(axis=2) for b in batches])
    labels = loader.labels
    right = read == labels[:, None]
    # A step before the first that reads as the first does.
    before = np.concatenate([right[:, :1], right[:, :-1]], axis=1)
    first, number = right[:, :1], right.sum(axis=0)
    interval = 100 * np.array([wilson_interval(int(n), len(labels)) for n in number])
    table = pd.DataFrame(
        {
            "step": np.arange(1, predictor.steps + 1),
            "accuracy": (100 * right.mean(axis=0)).round(3),
            "low": interval[:, 0].round(2),
            "high": interval[:, 1].round(2),
            "corrected": (right & ~before).sum(axis=0),
            "broken": (~right & before).sum(axis=0),
            "corrected_since_first": (right & ~first).sum(axis=0),
            "broken_since_first": (~right & first).sum(axis=0),
        }
    )
    return StepCounts(table, read, labels, loader.indices)
