"""Single images to look at: files, or samples of a store."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hccr_tf.data.dataset import Dataset, open_dataset
from hccr_tf.images.cleaning import ImageError
from hccr_tf.images.decoding import find_images, read_clean, read_input
from hccr_tf.inference.predictor import Predictor
from hccr_tf.utils.errors import HccrError

logger = logging.getLogger(__name__)

_CANDIDATES = 64  # samples of a character that are looked at
_BATCH = 16


@dataclass(frozen=True)
class NamedImage:
    """An image to make maps of.

    Attributes:
        name: for tables.
        label: what stands under it.
        image: uint8 (H, W), ink dark on white.
    """

    name: str
    label: str
    image: np.ndarray


def read_images(paths: Sequence[str], *, single: bool = True) -> list[NamedImage]:
    """Reads and cleans image files; of a folder all that lie in it.

    Files that can't be read or, with `single`, show several characters are logged and left out.

    Raises:
        FileNotFoundError: there's no such file, or no image in a folder.
        HccrError: none is left.
    """
    images, files = [], find_images(paths, logger.warning)
    for file in files:
        try:
            image = read_clean(read_input(file), single=single)
            images.append(NamedImage(file, Path(file).stem, image))
        except ImageError as error:
            logger.warning("%s: %s", file, error)
    if not images:
        raise HccrError(f"None of {len(files)} images could be read; see above.")
    return images


def sample_images(dataset: Dataset, indices: Sequence[int] | np.ndarray) -> list[NamedImage]:
    """Takes samples of a dataset, each with its character as its label."""
    names = dataset.sample_ids(indices)
    labels = dataset.labels_for(dataset.charset, np.asarray(indices))
    return [
        NamedImage(name, dataset.charset.char(int(label)), np.array(dataset.image(int(i))))
        for name, label, i in zip(names, labels, indices, strict=True)
    ]


def images_of_characters(
    data: str | Path | Dataset, split: str, characters: str, predictors: Sequence[Predictor]
) -> list[NamedImage]:
    """Takes a sample of each character that all models read rightly, or its first where none is.

    Args:
        data: a dataset or its folder.
        split: of the data.
        characters: one sample each.
        predictors: the models.

    Raises:
        HccrError: a character has no sample there.
    """
    dataset = open_dataset(data)
    indices = dataset.indices(split)
    labels = dataset.labels_for(dataset.charset, indices)
    chosen = []
    for character in characters:
        candidates = indices[labels == dataset.charset.index(character)][:_CANDIDATES]
        if not len(candidates):
            raise HccrError(f"{dataset.path} has no sample of {character} in its split {split}.")
        readable = _read_rightly(dataset, candidates, character, predictors)
        chosen.append(next(readable, int(candidates[0])))
    return sample_images(dataset, chosen)


def _read_rightly(dataset, indices, character, predictors) -> Iterator[int]:
    for begin in range(0, len(indices), _BATCH):
        batch = indices[begin : begin + _BATCH]
        # Always of one size: TensorFlow compiles anew for each.
        images = dataset.images(np.pad(batch, (0, _BATCH - len(batch)), mode="edge"))
        right = np.ones(_BATCH, bool)
        for predictor in predictors:
            read = predictor.logits(predictor.preprocessing.apply_many(images)).argmax(axis=1)
            right &= read == predictor.charset.index(character)
        yield from batch[right[: len(batch)]].tolist()
