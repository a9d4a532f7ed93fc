"""Stores as sources of other stores: how stores are joined, and cut to a charset.

Only what was read comes along: the new store finds duplicates anew, over all of its sources.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hccr_tf.data.sources.reader import Reader, SourceFile
from hccr_tf.data.sources.records import Record, RepairedName, Sample, Skipped
from hccr_tf.data.store import splits
from hccr_tf.data.store.format import MANIFEST, SKIPPED_FILE
from hccr_tf.data.store.store import Store
from hccr_tf.utils.files import read_json
from hccr_tf.utils.schema import decoding

_IMAGES = re.compile(r"images-(\d{5,})\.bin")
_LISTS = (SKIPPED_FILE, "repaired_names.csv")


def is_store(path: Path) -> bool:
    """Whether a folder is a store."""
    try:
        data = read_json(path / MANIFEST)
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(data, dict) and str(data.get("format", "")).startswith("hccr_tf store")


class StoreReader(Reader):
    """Reads a store's images with their writers and the splits they have there."""

    kind = "stores of `hccr data prepare`"
    priority = 30

    def __init__(self, options: dict[str, Any]) -> None:
        self._store: Store | None = None

    @classmethod
    def claims(cls, name: str) -> bool:
        """Claims a store's image files and lists."""
        return _IMAGES.fullmatch(name) is not None or name in _LISTS

    def read(self, file: SourceFile) -> Iterator[Record]:
        """Yields the samples of one of a store's image files, or the records of its lists.

        A sample keeps its id, after the store's own name. Copies that were held out of training
        come as training samples: the new store looks for copies itself.
        """
        if file.path is None or not is_store(file.path.parent):
            yield Skipped(file.source, None, file.num_bytes, "store's file outside of a store")
            return
        store = self._store = self._store or Store(file.path.parent)
        label = file.source.rsplit("/", 1)[0]
        match = _IMAGES.fullmatch(file.name)
        if match is None:
            with decoding(file.source, "prepare that store again"):
                text = io.StringIO(file.read().decode("utf-8"), newline="")
                if file.name == SKIPPED_FILE:
                    for row in csv.DictReader(text):
                        offset = int(row["offset"]) if row["offset"] else None
                        source = f"{label}/{row['source']}"
                        yield Skipped(source, offset, int(row["num_bytes"]), row["reason"])
                else:
                    yield from (RepairedName(**row) for row in csv.DictReader(text))
            return
        names = store.manifest["writers"]["names"]
        for i in store.samples_of_shard(int(match[1])).tolist():
            writer, split = int(store.writers[i]), int(store.split[i])
            yield Sample(
                store.image(i),
                store.charset.char(int(store.labels[i])),
                names[writer] if writer >= 0 else None,
                f"{label}/{store.sample_id(i)}",
                splits.SPLIT_NAMES[splits.TRAIN if split == splits.DUPLICATE else split],
            )
