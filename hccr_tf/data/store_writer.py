"""Writes a store's files: streaming over the samples, with only an index in memory."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from array import array
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data import splits
from hccr_tf.data.samples import Quarantined, Record, RepairedName, Sample
from hccr_tf.files import sha256_file

FORMAT = "hccr_tf store 1"
ARRAYS = {
    "offsets": np.int64,
    "heights": np.uint16,
    "widths": np.uint16,
    "labels": np.int32,
    "split": np.uint8,
    "writers": np.int32,
    "groups": np.int32,
    "ids_offsets": np.int64,
}
"""The `.npy` vectors of a store and their types."""

_LISTED = 100
"""Entries of a list that the manifest shows; the CSV file beside it has all."""


def data_hash(charset: Charset, files: dict[str, dict[str, Any]]) -> str:
    """Returns what identifies a store: the hash over its charset's and its files' hashes."""
    content = {
        "format": FORMAT,
        "charset": charset.sha256,
        "files": {name: files[name]["sha256"] for name in sorted(files)},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class StoreWriter:
    """Takes records one by one and writes a store into an empty folder.

    Args:
        folder: Where the files go.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        with ExitStack() as stack:
            self._pictures = stack.enter_context(open(folder / "pictures.bin", "wb"))
            self._ids = stack.enter_context(open(folder / "ids.bin", "wb"))
            quarantine = stack.enter_context(
                open(folder / "quarantine.csv", "w", encoding="utf-8", newline="")
            )
            self._open = stack.pop_all()  # Left open until `close`.
        self._quarantine_csv = csv.writer(quarantine, lineterminator="\n")
        self._quarantine_csv.writerow(["source", "offset", "num_bytes", "reason"])
        self._sha256 = hashlib.sha256()  # Of pictures.bin, which is too large to read again.
        self._offsets, self._ids_offsets = array("q", [0]), array("q", [0])
        self._heights, self._widths = array("H"), array("H")
        self._labels, self._writers, self._splits = array("i"), array("i"), array("b")
        self._digests = bytearray()
        self._characters: dict[str, int] = {}
        self._writer_names: dict[str, int] = {}
        self._repaired: dict[tuple[str, str], RepairedName] = {}
        self._reasons: Counter[str] = Counter()
        self._bad: list[Quarantined] = []

    def close(self) -> None:
        """Closes the files; `finish` does so too."""
        self._open.close()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, record: Record, prefix: str = "") -> None:
        """Takes one record.

        Args:
            record: What a reader yields.
            prefix: Goes before the name of its source.
        """
        if isinstance(record, Sample):
            self._add_sample(record, prefix)
        elif isinstance(record, RepairedName):
            self._repaired[record.name, record.character] = record
        else:
            source = prefix + record.source
            self._quarantine_csv.writerow(
                [_printable(source), record.offset, record.num_bytes, record.reason]
            )
            self._reasons[record.reason] += 1
            if len(self._bad) < _LISTED:
                self._bad.append(
                    Quarantined(source, record.offset, record.num_bytes, record.reason)
                )

    def _add_sample(self, sample: Sample, prefix: str) -> None:
        image = np.ascontiguousarray(sample.image)
        height, width = image.shape
        pixels = image.data
        self._pictures.write(pixels)
        self._sha256.update(pixels)
        # The shape belongs to the digest: 2×3 and 3×2 pixels may have the same bytes.
        digest = hashlib.blake2b(pixels, digest_size=16, salt=b"%dx%d" % (height, width))
        self._digests += digest.digest()
        self._offsets.append(self._offsets[-1] + image.size)
        self._heights.append(height)
        self._widths.append(width)
        name = _printable(prefix + sample.source).encode("utf-8")
        self._ids.write(name)
        self._ids_offsets.append(self._ids_offsets[-1] + len(name))
        characters, writers = self._characters, self._writer_names
        self._labels.append(characters.setdefault(sample.character, len(characters)))
        self._writers.append(
            -1 if sample.writer is None else writers.setdefault(sample.writer, len(writers))
        )
        self._splits.append(-1 if sample.split is None else splits.SPLIT_NAMES.index(sample.split))

    def finish(
        self, mode: str, seed: int, test_fraction: float, validation_fraction: float
    ) -> dict[str, Any]:
        """Writes the index and the lists.

        Args:
            mode, seed, test_fraction, validation_fraction: As in `splits.assign_splits`.

        Returns:
            The manifest, without the list of sources.

        Raises:
            ValueError: There was no readable sample, or the split is not possible.
        """
        self.close()
        if not self._labels:
            reasons = "; ".join(f"{reason}: {n}" for reason, n in self._reasons.most_common(5))
            raise ValueError(f"no readable sample in the sources ({reasons or 'they are empty'})")
        charset = Charset.sorted(self._characters)
        to_index = np.array([charset.index(c) for c in self._characters], np.int32)
        labels = to_index[np.frombuffer(self._labels, np.int32)]
        writers = np.frombuffer(self._writers, np.int32)
        groups = splits.group_pictures(np.frombuffer(self._digests, "<u8").reshape(-1, 2))
        source_splits = np.frombuffer(self._splits, np.int8)
        resolved = splits.choose_mode(mode, source_splits, writers)
        split = splits.assign_splits(
            labels, groups, source_splits, writers, resolved, seed, test_fraction,
            validation_fraction,
        )  # fmt: skip
        values = {
            "offsets": self._offsets, "heights": self._heights, "widths": self._widths,
            "labels": labels, "split": split, "writers": writers, "groups": groups,
            "ids_offsets": self._ids_offsets,
        }  # fmt: skip
        for name, dtype in ARRAYS.items():
            # Through memory: np.save to a file reports a full disk without its error number.
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(values[name], dtype), allow_pickle=False)
            (self._folder / f"{name}.npy").write_bytes(buffer.getbuffer())
        duplicates = self._write_duplicates(charset, labels, groups, split)
        repaired = sorted(self._repaired.values(), key=lambda r: (r.character, r.name))
        rows = [[_printable(r.name), r.character, r.code_page] for r in repaired]
        self._write_csv("repaired_names.csv", ["name", "character", "code_page"], rows)
        files = self._checksums()
        table = np.bincount(labels * 4 + split, minlength=4 * len(charset)).reshape(-1, 4)
        names = splits.SPLIT_NAMES
        return {
            "format": FORMAT,
            "data_hash": data_hash(charset, files),
            "num_samples": len(labels),
            "num_classes": len(charset),
            "counts": dict(zip(names, table.sum(axis=0).tolist(), strict=True)),
            "split": {
                "requested": mode,
                "mode": resolved,
                "seed": seed,
                "test_fraction": test_fraction if resolved != "source" else None,
                "validation_fraction": validation_fraction,
            },
            "charset": {"sha256": charset.sha256, "characters": charset.text},
            "writers": {
                "num_writers": len(self._writer_names),
                "samples_without_writer": int((writers < 0).sum()),
                "names": list(self._writer_names),
            },
            "duplicates": duplicates,
            "repaired_names": {
                "count": len(rows),
                "code_pages": dict(sorted(Counter(r.code_page for r in repaired).items())),
                "first": [dict(zip(("name", "character", "code_page"), r, strict=True))
                          for r in rows[:_LISTED]],
            },  # fmt: skip
            "quarantined": {
                "count": sum(self._reasons.values()),
                "by_reason": dict(sorted(self._reasons.items())),
                "first": [
                    {"source": _printable(q.source), "offset": q.offset,
                     "num_bytes": q.num_bytes, "reason": q.reason}
                    for q in self._bad
                ],
            },  # fmt: skip
            "counts_per_class": {
                character: dict(zip(names, row, strict=True))
                for character, row in zip(charset, table.tolist(), strict=True)
            },
            "files": files,
        }

    def _write_duplicates(
        self, charset: Charset, labels: np.ndarray, groups: np.ndarray, split: np.ndarray
    ) -> dict[str, Any]:
        """Lists all pictures that occur more than once and returns them in numbers."""
        sizes = np.bincount(groups)
        order = np.argsort(groups, kind="stable")
        order = order[sizes[groups[order]] > 1]
        lowest, highest = np.full(len(sizes), len(charset)), np.full(len(sizes), -1)
        np.minimum.at(lowest, groups, labels)
        np.maximum.at(highest, groups, labels)
        conflicting = lowest < highest
        held_out = np.zeros(len(sizes), bool)
        held_out[groups[split == splits.DUPLICATE]] = True
        names = self._read_ids(order)
        rows = [
            [int(groups[i]), name, charset.char(int(labels[i])), splits.SPLIT_NAMES[split[i]],
             int(conflicting[groups[i]])]
            for i, name in zip(order.tolist(), names, strict=True)
        ]  # fmt: skip
        self._write_csv(
            "duplicates.csv", ["group", "sample_id", "character", "split", "conflicting"], rows
        )
        conflicts: dict[int, list[dict[str, str]]] = {}
        for group, name, character, side, conflict in rows:
            if conflict:
                conflicts.setdefault(group, []).append(
                    {"sample_id": name, "character": character, "split": side}
                )
        return {
            "groups": int((sizes > 1).sum()),
            "extra_copies": int((sizes[sizes > 1] - 1).sum()),
            "groups_across_splits": int(held_out.sum()),
            "held_out": int((split == splits.DUPLICATE).sum()),
            "conflicting_groups": int(conflicting.sum()),
            "conflicting_first": list(conflicts.values())[:_LISTED],
        }

    def _read_ids(self, indices: np.ndarray) -> list[str]:
        with open(self._folder / "ids.bin", "rb") as stream:
            names = []
            for i in indices.tolist():
                stream.seek(self._ids_offsets[i])
                length = self._ids_offsets[i + 1] - self._ids_offsets[i]
                names.append(stream.read(length).decode("utf-8"))
        return names

    def _write_csv(self, name: str, head: list[str], rows: Iterable[list[Any]]) -> None:
        with open(self._folder / name, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(head)
            writer.writerows(rows)

    def _checksums(self) -> dict[str, dict[str, Any]]:
        files = {}
        for file in sorted(self._folder.iterdir()):
            sha256 = self._sha256.hexdigest() if file.name == "pictures.bin" else sha256_file(file)
            files[file.name] = {"num_bytes": file.stat().st_size, "sha256": sha256}
        return files


def _printable(text: str) -> str:
    """Makes a file name that is no valid UTF-8 (Python marks such bytes) writable."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
