"""What a store's files are: names, types, and the hashes of what is in them."""

import hashlib
import json
from typing import Any

import numpy as np

from hccr_tf.charset import Charset

MANIFEST = "manifest.json"
FORMAT = "hccr_tf store 2"
STROKES_FORMAT = "hccr_tf strokes 1"  # of a store that draws its images
SKIPPED_FILE = "skipped.csv"
ARRAYS = {
    "shards": np.int32,
    "offsets": np.int64,
    "heights": np.uint16,
    "widths": np.uint16,
    "labels": np.int32,
    "split": np.uint8,
    "writers": np.int32,
    "groups": np.int32,
    "digests": np.uint64,
    "ids_offsets": np.int64,
}
"""The arrays of a store and their types; `digests` has two columns."""


def array_file(name: str) -> str:
    """Name of the file that holds one of `ARRAYS`."""
    # So called since this format's first store.
    return "parts.npy" if name == "shards" else f"{name}.npy"


def image_file(number: int) -> str:
    """Name of the file that holds a shard's images."""
    return f"images-{number:05d}.bin"


def fold_heights(digests: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Returns digests that tell apart images of equal bytes and different shape.

    Both are shape (n, 2), uint64, little-endian; one is the first half of a SHA-256 of pixels.
    """
    folded = digests.copy()
    folded[:, 0] ^= heights.astype(np.uint64)
    return folded


def data_hash(charset: Charset, files: dict[str, dict[str, Any]]) -> str:
    """Returns what identifies a store: the hash over its images, characters and splits.

    `files` is the manifest's; `digests.npy` holds a SHA-256 of every image.
    """
    hashes = {name: files[f"{name}.npy"]["sha256"] for name in ("digests", "labels", "split")}
    content = {"format": FORMAT, "charset": charset.sha256, "files": hashes}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
