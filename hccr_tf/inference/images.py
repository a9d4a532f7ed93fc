"""Single images to look at: files, or samples of a store."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hccr_tf.data.store.store import Store
from hccr_tf.images.cleaning import ImageError
from hccr_tf.images.decoding import find_images, read_clean, read_input
from hccr_tf.inference.predictor import Predictor
from hccr_tf.utils.errors import HccrError

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

    What can't be read or, with `single`, shows several characters is named on standard error and
    left out.

    Raises:
        FileNotFoundError: there's no such file, or no image in a folder.
        HccrError: none is left.
    """
    images, files = [], find_images(paths, lambda message: print(message, file=sys.stderr))
    for file in files:
        try:
            image = read_clean(read_input(file), single=single)
            images.append(NamedImage(file, Path(file).stem, image))
        except ImageError as error:
            print(f"{file}: {error}", file=sys.stderr)
    if not images:
        raise HccrError(f"None of {len(files)} images could be read; see above.")
    return images


def sample_images(store: Store, indices: Sequence[int]) -> list[NamedImage]:
    """Samples of a store, each with its character as its label."""
    return [
        NamedImage(
            store.sample_id(int(i)),
            store.charset.char(int(store.labels[i])),
            np.array(store.image(int(i))),
        )
        for i in indices
    ]


def images_of_characters(
    store: Store, split: str, characters: str, predictors: Sequence[Predictor]
) -> list[NamedImage]:
    """A sample of each character that all models read rightly, or its first where none is.

    Args:
        store: the data.
        split: of the store.
        characters: one sample each.
        predictors: the models.

    Raises:
        HccrError: a character has no sample there.
    """
    indices = store.indices(split)
    labels = store.labels[indices]
    chosen = []
    for character in characters:
        own = indices[labels == store.charset.index(character)][:_CANDIDATES]
        if not len(own):
            raise HccrError(f"{store.path} has no sample of {character} in its split {split}.")
        chosen.append(next(_read_rightly(store, own, character, predictors), int(own[0])))
    return sample_images(store, chosen)


def _read_rightly(store, indices, character, predictors) -> Iterator[int]:
    for begin in range(0, len(indices), _BATCH):
        batch = indices[begin : begin + _BATCH]
        # Always of one size: TensorFlow compiles anew for each.
        images = store.images(np.pad(batch, (0, _BATCH - len(batch)), mode="edge"))
        right = np.ones(_BATCH, bool)
        for predictor in predictors:
            read = predictor.logits(predictor.preprocessing.apply_many(images)).argmax(axis=1)
            right &= read == predictor.charset.index(character)
        yield from batch[right[: len(batch)]].tolist()
