"""Class activation maps of several runs side by side, as files (Melnyk et al. 2018, fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hccr_tf.evaluation.metrics import softmax
from hccr_tf.images.contact_sheet import draw_sheet, encode_png
from hccr_tf.inference.cam import ActivationMapper, overlay
from hccr_tf.inference.images import NamedImage
from hccr_tf.inference.predictor import Predictor
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write, distinct_names

_BATCH = 32
_SHOWN = 40


def write_cams(
    predictors: Sequence[Predictor],
    images: Sequence[NamedImage],
    out: str | Path,
    *,
    top_k: int = 1,
    layer: str | None = None,
    classes: Sequence[Sequence[int]] | None = None,
) -> pd.DataFrame:
    """Writes the maps of several runs for the same images.

    `cam.png` has a row for each of the first 40 images and each rank, a column for each run and
    the image itself at the right; under each map stand character and softmax score.
    `cam.csv` says the same of all images in numbers, `maps.npz` holds RUN/maps, float32
    (images, top_k, h, w), and RUN/classes, int64 (images, top_k), and `overlays/` has each
    map over its prepared image. Maps by weights of a network that ends in a mean are h·w
    times those that its gradients give.

    Args:
        predictors: trained runs.
        images: what they read.
        out: folder to write to.
        top_k: the most probable classes to draw maps for.
        layer: as for `ActivationMapper`.
        classes: (images, top_k) class indices to map; the most probable ones if None.

    Returns:
        The table: a row for each image, run and rank.

    Raises:
        HccrError: nothing to do, more ranks than classes, or no such layer.
    """
    if not predictors or not images:
        raise HccrError("Maps need at least one run and one image.")
    fewest = min(len(p.charset) for p in predictors)
    if not 1 <= top_k <= fewest:
        raise HccrError(f"top_k is 1 to {fewest}, the number of classes; not {top_k}.")
    out = Path(out)
    (out / "overlays").mkdir(parents=True, exist_ok=True)
    names = distinct_names([predictor.workdir.path for predictor in predictors])
    rows, arrays = [], {}
    shown = {(i, rank): [] for i in range(min(len(images), _SHOWN)) for rank in range(top_k)}
    for name, predictor in zip(names, predictors, strict=True):
        mapper = ActivationMapper(predictor.model, layer)
        found = []
        for begin in range(0, len(images), _BATCH):
            batch = images[begin : begin + _BATCH]
            prepared = predictor.preprocessing.apply_many([p.image for p in batch])
            logits = predictor.logits(prepared)
            mapped = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
            if classes is not None:
                mapped = np.asarray(classes[begin : begin + _BATCH], np.int64)
            found.append(mapper(prepared, mapped))
            probabilities = softmax(logits)
            for i, rank in np.ndindex(mapped.shape):
                label, number = int(mapped[i, rank]), begin + i
                character, probability = predictor.charset.char(label), probabilities[i, label]
                coloured = overlay(prepared[i], found[-1].maps[i, rank])
                file = f"{number + 1:03d}-{name}-{rank + 1}-{character_file_name(character)}.png"
                with atomic_write(out / "overlays" / file) as temporary:
                    temporary.write_bytes(encode_png(coloured))
                if (number, rank) in shown:
                    text = f"{name}: {character} {100 * probability:.1f} %"
                    shown[number, rank].append((coloured, text))
                rows.append(
                    {
                        "image": batch[i].name,
                        "run": name,
                        "rank": rank + 1,
                        "character": character,
                        "probability": round(float(probability), 6),
                        "layer": mapper.layer,
                        "method": "gradients" if mapper.through_gradients else "weights",
                        "overlay": f"overlays/{file}",
                    }
                )
        arrays[f"{name}/maps"] = np.concatenate([part.maps for part in found])
        arrays[f"{name}/classes"] = np.concatenate([part.classes for part in found])
    for (i, rank), row in shown.items():
        row.append((images[i].image if rank == 0 else None, images[i].label))
    tiles, texts = zip(*(tile for row in shown.values() for tile in row), strict=True)
    columns = len(predictors) + 1
    draw_sheet(tiles, texts, out / "cam.png", columns=columns, tile=144, text_size=20)
    with atomic_write(out / "maps.npz") as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    table = pd.DataFrame(rows)
    with atomic_write(out / "cam.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def character_file_name(character: str) -> str:
    """A character as part of a file name that every system takes: its code point.

    Example:
        >>> character_file_name("永")
        'U+6C38'
    """
    return f"U+{ord(character):04X}"
