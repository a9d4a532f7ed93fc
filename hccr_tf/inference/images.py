"""Single images to look at: files, or samples of a store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hccr_tf.data.dataset import Dataset
from hccr_tf.images.cleaning import ImageError
from hccr_tf.images.decoding import find_images, read_clean, read_input
from hccr_tf.inference.predictor import Predictor
from hccr_tf.utils.errors import HccrError

logger = logging.getLogger(__name__)

_CANDIDATES = 64  # samples of a character that are looked at


class NamedImage(NamedTuple):
    """An image to make maps of: uint8 (H, W), dark ink on white.

    Tables give its name, and its label stands under it.
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
    indices = np.asarray(indices)
    labels = dataset.labels_for(dataset.charset, indices)
    samples = zip(dataset.sample_ids(indices), labels, dataset.images(indices), strict=True)
    return [
        NamedImage(name, dataset.charset.char(int(label)), np.array(image))
        for name, label, image in samples
    ]


def images_of_characters(
    dataset: Dataset, split: str, characters: str, predictors: Sequence[Predictor]
) -> list[NamedImage]:
    """Takes a sample of each character that all models read rightly, or its first where none is.

    Raises:
        HccrError: a character has no sample in that split.
    """
    indices = dataset.indices(split)
    labels = dataset.labels_for(dataset.charset, indices)
    chosen = []
    for character in characters:
        candidates = indices[labels == dataset.charset.index(character)]
        if not len(candidates):
            raise HccrError(f"{dataset.path} has no sample of {character} in its split {split}.")
        # Always as many: TensorFlow compiles anew for each number.
        candidates = np.resize(candidates, _CANDIDATES)
        images, is_right = dataset.images(candidates), np.ones(_CANDIDATES, bool)
        for predictor in predictors:
            read = predictor.logits(predictor.preprocessing.apply_many(images)).argmax(axis=1)
            is_right &= read == predictor.charset.index(character)
        chosen.append(candidates[is_right.argmax()])
    return sample_images(dataset, chosen)
