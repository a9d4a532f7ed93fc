"""What a store's files are: names, types, and the hashes of what is in them."""

import hashlib
import json
from typing import Any

import numpy as np

from hccr_tf.charset import STORED_CHARSET, Charset
from hccr_tf.utils.schema import Count, FileName, Sha256

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


DATASET_SCHEMA = {
    "data_hash": Sha256,
    "num_classes": Count,
    "charset": STORED_CHARSET,
    "files": dict[FileName, Any],  # of images digests are kept, and no checksum
}
"""What the manifest of any dataset holds, besides others."""
FILE_SCHEMA = {"num_bytes": Count, "sha256?": Sha256}
STORE_SCHEMA = {
    "num_samples": Count,
    "files": dict.fromkeys((*map(array_file, ARRAYS), "ids.bin"), {"sha256": Sha256}),
    "counts": dict[str, Count],
    "split": {"mode": str, "seed": int},
    "writers": {"num_writers": Count, "samples_without_writer": Count, "names": list[str]},
    "duplicates": {
        **dict.fromkeys(("groups", "extra_copies", "groups_across_splits"), Count),
        **dict.fromkeys(("held_out", "conflicting_groups"), Count),
        "conflicting_first": [[{"character": str, "sample_id": str}]],
    },
    "repaired_names": {
        "count": Count,
        "code_pages": dict[str, Count],
        "first": [{"name": str, "character": str}],
    },
    "skipped": {"count": Count, "by_reason": dict[str, Count], "first": [{"source": str}]},
    "left_out": {"count": Count, "by_character": dict[str, Count]},
    "known_sets": {"checks": [{"text": str}]},
    "sources": [{"name": str, "num_bytes": Count, "sha256": str, "sha256_of": str}],
}
"""What a store's manifest holds as well."""


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
