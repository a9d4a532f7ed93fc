"""Open whichever dataset lies in a folder."""

import os
from importlib import import_module
from pathlib import Path

from hccr_tf.data.dataset import Dataset
from hccr_tf.data.store.format import MANIFEST, STROKES_FORMAT
from hccr_tf.data.store.store import Store
from hccr_tf.utils.files import read_json


def open_dataset(path: str | os.PathLike[str] | Dataset) -> Dataset:
    """Opens a store of images or of strokes, whichever lies there; a dataset comes back as it is.

    Raises:
        FileNotFoundError: There is none, or one of its files is missing.
        HccrError: Another format, or altered files.
    """
    if isinstance(path, Dataset):
        return path
    manifest = Path(path) / MANIFEST
    content = read_json(manifest) if manifest.is_file() else None
    # Drawing stands on a floor above reading.
    if isinstance(content, dict) and content.get("format") == STROKES_FORMAT:
        return import_module("hccr_tf.synthesis.dataset").StrokeDataset(path)
    return Store(path)
