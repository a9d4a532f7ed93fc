"""What training and prediction need of any data, and the way to open it."""

import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.store.format import MANIFEST, STROKES_FORMAT
from hccr_tf.utils.files import read_json


class Dataset(Protocol):
    """Images by number, with their labels: a store on disk, or images drawn when asked for.

    Attributes:
        path: The dataset's folder.
        manifest: What its `manifest.json` says.
        charset: The characters of the class indices.
        data_hash: 64 hexadecimal digits that identify images, labels and splits.
    """

    path: Path
    manifest: dict[str, Any]
    charset: Charset
    data_hash: str

    def __len__(self) -> int:
        """Returns the number of images."""
        ...

    def indices(self, split: str) -> np.ndarray:
        """Returns the numbers of a split's images, int64; of "train", those of epoch 0."""
        ...

    def at_epoch(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        """Returns the images that stand for those of epoch 0 in another epoch."""
        ...

    def images(self, indices: np.ndarray) -> list[np.ndarray]:
        """Returns images, each uint8 (height, width), as the source has them."""
        ...

    def image(self, index: int) -> np.ndarray:
        """Returns one image, uint8 (height, width)."""
        ...

    def labels_for(self, charset: Charset, indices: np.ndarray) -> np.ndarray:
        """Returns class indices under a charset that has every character, int32 (n,)."""
        ...

    def verify(self) -> None:
        """Compares every file with its checksum.

        Raises:
            HccrError: A file was altered.
        """
        ...

    def sample_ids(self, indices: Iterable[int]) -> list[str]:
        """Returns a name for each image that stays the same whatever is read beside it."""
        ...


def open_dataset(path: str | os.PathLike[str] | Dataset) -> Dataset:
    """Opens a store of images or of strokes, whichever lies there; a dataset comes back as it is.

    Raises:
        FileNotFoundError: There is none, or one of its files is missing.
        HccrError: Another format, or altered files.
    """
    if not isinstance(path, (str, os.PathLike)):
        return path
    manifest = Path(path) / MANIFEST
    content = read_json(manifest) if manifest.is_file() else None
    # Drawing stands on a floor above reading.
    if isinstance(content, dict) and content.get("format") == STROKES_FORMAT:
        return import_module("hccr_tf.synthesis.dataset").StrokeDataset(path)
    return import_module("hccr_tf.data.store.store").Store(path)
