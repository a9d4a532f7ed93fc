"""Writes a store: shards of images by the processes that read, the index and lists by one.

A shard is one image file of the store and what is known of its images. Its memory does not grow
with the size of what is read, only with the number of images.
"""

import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.sources.records import Record, RepairedName, Sample, SampleBlock, Skipped
from hccr_tf.data.store import splits
from hccr_tf.data.store.format import (
    ARRAYS,
    FORMAT,
    SKIPPED_FILE,
    array_file,
    data_hash,
    fold_heights,
    image_file,
)
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import sha256_file, write_rows
from hccr_tf.utils.terminal import printable

_LISTED = 100
"""Entries of a list that the manifest shows; the CSV file beside it has all."""

INDEX = np.dtype(
    [
        ("digest", "<u8", 2),
        ("id_length", "<u4"),  # in bytes
        ("character", "<u4"),
        ("writer", "<i4"),  # place in the shard's writers, -1 for unknown
        ("height", "<u2"),
        ("width", "<u2"),
        ("split", "i1"),  # split code, -1 for none
    ]
)


@dataclass
class Shard:
    """What is known of one image file and what was read for it."""

    number: int
    index: np.ndarray = field(default_factory=lambda: np.empty(0, INDEX))
    ids: bytes = b""  # one after another, UTF-8
    writers: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    repaired: list[RepairedName] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # characters outside of the charset


class ShardWriter:
    """Takes records and writes a shard's image file into a folder.

    Images of characters outside of the charset, if there is one, are left out and counted.
    """

    def __init__(self, folder: Path, number: int, charset: Charset | None = None):
        self._shard = Shard(number)
        self._wanted = None if charset is None else np.array([ord(c) for c in charset], np.uint32)
        self._path = folder / image_file(number)
        self._images = open(self._path, "wb", buffering=0)  # noqa: SIM115  Written by blocks.
        self._writers: dict[str, int] = {}
        self._rows: list[np.ndarray] = []
        self._digests = bytearray()
        self._ids: list[bytes] = []

    def add(self, record: Record) -> None:
        """Takes what a reader yields."""
        if isinstance(record, SampleBlock):
            columns = [record.characters, record.heights, record.widths, record.starts]
            columns.append(np.arange(record.first, record.first + len(record.starts)))
            if not (wanted := self._is_wanted(record.characters)).all():
                columns = [column[wanted] for column in columns]
            codes, heights, widths, starts, numbers = columns
            ends, view = starts + heights * widths, record.buffer
            images = [view[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
            name = printable(record.source).encode("utf-8")
            ids = [b"%s#%d" % (name, i) for i in numbers.tolist()]
            self._add_images(images, ids, (heights, widths, codes), record)
        elif isinstance(record, Sample):
            codes = np.array([ord(record.character)])
            if self._is_wanted(codes).all():
                image = np.ascontiguousarray(record.image)
                ids = [printable(record.source).encode("utf-8")]
                self._add_images([image.reshape(-1).data], ids, (*image.shape, codes), record)
        elif isinstance(record, RepairedName):
            self._shard.repaired.append(record)
        else:
            self._shard.skipped.append(record)

    def _is_wanted(self, codes: np.ndarray) -> np.ndarray:
        if self._wanted is None:
            return np.ones(len(codes), bool)
        wanted = np.isin(codes, self._wanted)
        self._shard.left_out.update(map(chr, codes[~wanted].tolist()))
        return wanted

    def _add_images(self, images, ids, size_and_code, record: Sample | SampleBlock) -> None:
        rows = np.empty(len(images), INDEX)
        rows["height"], rows["width"], rows["character"] = size_and_code
        rows["id_length"] = list(map(len, ids))
        rows["writer"] = rows["split"] = -1
        if record.writer is not None:
            rows["writer"] = self._writers.setdefault(record.writer, len(self._writers))
        if record.split is not None:
            rows["split"] = splits.SPLIT_NAMES.index(record.split)
        self._rows.append(rows)
        self._ids += ids
        self._digests += b"".join([sha256(pixels).digest()[:16] for pixels in images])
        data = memoryview(b"".join(images))
        while len(data):  # A raw file may take less at a time.
            data = data[self._images.write(data) :]

    def close(self) -> None:
        """Closes the image file, finished or not."""
        self._images.close()

    def finish(self) -> Shard:
        """Closes the image file and returns what is known of it; one without images goes."""
        os.fsync(self._images)
        if hasattr(os, "posix_fadvise"):
            # Nobody reads it soon: its pages serve the next shard, as fresh ones cost more.
            os.posix_fadvise(self._images.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self.close()
        shard = self._shard
        shard.writers = list(self._writers)
        shard.ids = b"".join(self._ids)
        shard.index = np.concatenate([shard.index, *self._rows])
        digests = np.frombuffer(self._digests, "<u8").reshape(-1, 2)
        shard.index["digest"] = fold_heights(digests, shard.index["height"])
        if not len(shard.index):
            self._path.unlink()
        return shard


def assemble(
    folder: Path,
    shards: list[Shard],
    skipped: list[Skipped],
    rule: splits.SplitRule,
    charset: Charset | None = None,
) -> dict[str, Any]:
    """Writes a store's index and lists beside its image files; returns the manifest for them.

    Args:
        folder: Where the image files lie.
        shards: All of them, in order.
        skipped: What was not even begun to be read.
        rule: How samples are dealt out.
        charset: The store's charset, or None for the characters that occur, by code point.

    Raises:
        HccrError: There was no readable sample, or the split is not possible.
        OSError: The disk is full.
    """
    skipped = [*skipped, *(entry for shard in shards for entry in shard.skipped)]
    reasons = Counter(entry.reason for entry in skipped)
    left_out: Counter[str] = sum((shard.left_out for shard in shards), Counter())
    names = {(name.name, name.character): name for shard in shards for name in shard.repaired}
    shards = [shard for shard in shards if len(shard.index)]
    if not shards:
        why = "; ".join(f"{reason}: {n}" for reason, n in reasons.most_common(5))
        if left_out:
            why += f"; {left_out.total()} of characters outside of the charset"
        raise HccrError(f"no readable sample in the sources ({why or 'they are empty'})")
    index = np.concatenate([shard.index for shard in shards])
    codes, source_splits, digests = index["character"], index["split"], index["digest"].copy()
    charset = charset or Charset.sorted(map(chr, np.unique(codes).tolist()))
    label_of = np.zeros(max(map(ord, charset)) + 1, np.int32)
    label_of[[ord(character) for character in charset]] = np.arange(len(charset))
    labels = label_of[codes]
    image_files: dict[str, dict[str, Any]] = {}
    writer_of: dict[str, int] = {}
    writers, offsets = [], []
    for shard in shards:
        numbers = [writer_of.setdefault(name, len(writer_of)) for name in shard.writers]
        # A writer that is not known is -1 and takes the last entry.
        writers.append(np.array([*numbers, -1], np.int32)[shard.index["writer"]])
        ends = np.cumsum(shard.index["height"].astype(np.int64) * shard.index["width"])
        offsets.append(np.r_[0, ends[:-1]])
        # The images' checksums are in the digests.
        image_files[image_file(shard.number)] = {"num_bytes": int(ends[-1])}
    writer_numbers = np.concatenate(writers)
    groups = splits.group_images(digests)
    mode = splits.choose_mode(rule.mode, source_splits, writer_numbers)
    split = splits.assign_splits(labels, groups, source_splits, writer_numbers, rule)
    arrays = {
        "shards": np.repeat([s.number for s in shards], [len(s.index) for s in shards]),
        "offsets": np.concatenate(offsets),
        "heights": index["height"],
        "widths": index["width"],
        "labels": labels,
        "split": split,
        "writers": writer_numbers,
        "groups": groups,
        "digests": digests,
        "ids_offsets": np.cumsum(np.r_[0, index["id_length"].astype(np.int64)]),
    }
    for name, values in arrays.items():
        # By way of memory: np.save itself reports a full disk without its error number.
        np.save(content := io.BytesIO(), np.ascontiguousarray(values, ARRAYS[name]))
        (folder / array_file(name)).write_bytes(content.getbuffer())
    with open(folder / "ids.bin", "wb") as stream:
        stream.writelines(shard.ids for shard in shards)
    duplicates = _write_duplicates(folder, charset, labels, groups, split)
    rows = [{**asdict(entry), "source": printable(entry.source)} for entry in skipped]
    write_rows(folder / SKIPPED_FILE, Skipped.__slots__, (row.values() for row in rows))
    repaired = [{**asdict(entry), "name": printable(entry.name)} for entry in names.values()]
    repaired.sort(key=lambda name: (name["character"], name["name"]))
    renamed = (row.values() for row in repaired)
    write_rows(folder / "repaired_names.csv", RepairedName.__slots__, renamed)
    lists = ("ids.bin", "duplicates.csv", SKIPPED_FILE, "repaired_names.csv")
    files = {
        name: {"num_bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name in (*map(array_file, ARRAYS), *lists)
    }
    files |= image_files
    table = np.bincount(labels * 4 + split, minlength=4 * len(charset)).reshape(-1, 4)
    return {
        "format": FORMAT,
        "data_hash": data_hash(charset, files),
        "num_samples": len(index),
        "num_classes": len(charset),
        "counts": dict(zip(splits.SPLIT_NAMES, table.sum(axis=0).tolist(), strict=True)),
        "split": {
            "requested": rule.mode,
            **asdict(rule),
            "mode": mode,
            "test_fraction": rule.test_fraction if mode != "source" else None,
        },
        "charset": {"sha256": charset.sha256, "characters": charset.text},
        "writers": {
            "num_writers": len(writer_of),
            "samples_without_writer": int((writer_numbers < 0).sum()),
            "names": list(writer_of),
        },
        "duplicates": duplicates,
        "repaired_names": {
            "count": len(repaired),
            "code_pages": dict(sorted(Counter(name["code_page"] for name in repaired).items())),
            "first": repaired[:_LISTED],
        },
        "skipped": {
            "count": reasons.total(),
            "by_reason": dict(sorted(reasons.items())),
            "first": rows[:_LISTED],
        },
        "left_out": {"count": left_out.total(), "by_character": dict(sorted(left_out.items()))},
        "counts_per_class": {
            character: dict(zip(splits.SPLIT_NAMES, row, strict=True))
            for character, row in zip(charset, table.tolist(), strict=True)
        },
        "files": files,
    }


def _write_duplicates(
    folder: Path, charset: Charset, labels: np.ndarray, groups: np.ndarray, split: np.ndarray
) -> dict[str, Any]:
    """Lists all images that occur more than once and returns them in numbers."""
    sizes = np.bincount(groups)
    repeated = np.flatnonzero(sizes[groups] > 1)
    order = repeated[np.argsort(groups[repeated], kind="stable")]
    group_labels = np.unique(np.stack([groups[order], labels[order]], axis=1), axis=0)
    conflicting = np.bincount(group_labels[:, 0], minlength=len(sizes)) > 1
    duplicates = split == splits.DUPLICATE
    conflicts: dict[int, list[dict[str, str]]] = {}
    ids = np.memmap(folder / "ids.bin", np.uint8, "r")
    offsets = np.load(folder / array_file("ids_offsets"), mmap_mode="r")

    def rows() -> Iterator[tuple]:
        for i in order.tolist():
            group = int(groups[i])
            sample = {
                "sample_id": ids[offsets[i] : offsets[i + 1]].tobytes().decode("utf-8"),
                "character": charset.char(int(labels[i])),
                "split": splits.SPLIT_NAMES[split[i]],
            }
            if conflicting[group] and (group in conflicts or len(conflicts) < _LISTED):
                conflicts.setdefault(group, []).append(sample)
            yield group, *sample.values(), int(conflicting[group])

    head = ["group", "sample_id", "character", "split", "conflicting"]
    write_rows(folder / "duplicates.csv", head, rows())
    return {
        "groups": int((sizes > 1).sum()),
        "extra_copies": int((sizes[sizes > 1] - 1).sum()),
        "groups_across_splits": len(np.unique(groups[duplicates])),
        "held_out": int(duplicates.sum()),
        "conflicting_groups": int(conflicting.sum()),
        "conflicting_first": list(conflicts.values()),
    }
