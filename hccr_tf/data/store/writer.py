"""Puts a store together from its parts: splits, duplicates, lists and the manifest."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.sources.records import Skipped
from hccr_tf.data.store import splits
from hccr_tf.data.store.format import ARRAYS, FORMAT, data_hash, image_file
from hccr_tf.data.store.parts import PARTS, QUARANTINE_HEAD, STORE, Part, printable
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import sha256_file

_LISTED = 100
"""Entries of a list that the manifest shows; the CSV file beside it has all."""


@dataclass(frozen=True)
class SplitRule:
    """How samples are dealt out; see `splits.assign_splits`."""

    mode: str = "auto"
    seed: int = 1
    test_fraction: float = 0.2
    validation_fraction: float = 0.05
    validation_mode: str = "auto"

    def check(self) -> None:
        """Raises ValueError where a fraction is out of range, before anything is read."""
        splits.check_fractions(self.test_fraction, self.validation_fraction)
        splits.check_validation_mode(self.validation_mode)


def assemble(
    folder: Path,
    num_parts: int,
    quarantined: Sequence[Skipped],
    rule: SplitRule,
    charset: Charset | None = None,
) -> dict[str, Any]:
    """Writes a store's index and lists beside its image files.

    Args:
        folder: The work folder, with all parts.
        num_parts: How many there are.
        quarantined: What was not even begun to be read.
        rule: How samples are dealt out.
        charset: The store's charset, or None for the characters that occur, by code point.

    Returns:
        The manifest, without the list of sources.

    Raises:
        HccrError: There was no readable sample, or the split is not possible.
        OSError: The disk is full.
    """
    store = folder / STORE
    parts = []
    for number in range(num_parts):
        part = Part.open(folder, number)
        if part is None:
            raise HccrError(f"{folder} is damaged: part {number} is missing; delete the folder")
        parts.append(part)
    reasons = Counter(q.reason for q in quarantined)
    left_out: Counter[str] = Counter()
    for part in parts:
        reasons.update(part.facts["reasons"])
        left_out.update(part.facts["left_out"])
    num_samples = sum(part.facts["num_samples"] for part in parts)
    if not num_samples:
        why = "; ".join(f"{reason}: {n}" for reason, n in reasons.most_common(5))
        if left_out:
            why += f"; {left_out.total()} of characters outside of the charset"
        raise HccrError(f"no readable sample in the sources ({why or 'they are empty'})")

    if charset is None:
        charset = Charset.sorted(_characters(parts))
    index = _write_index(store, parts, num_samples, charset)
    groups = splits.group_images(index.digests)
    resolved = splits.choose_mode(rule.mode, index.source_splits, index.writers)
    split = splits.assign_splits(
        index.labels,
        groups,
        index.source_splits,
        index.writers,
        resolved,
        rule.seed,
        rule.test_fraction,
        rule.validation_fraction,
        rule.validation_mode,
    )
    _save(store, "groups", groups)
    _save(store, "split", split)
    duplicates = _write_duplicates(store, charset, index.labels, groups, split)

    first_bad = _write_quarantine(store, parts, quarantined)
    found = {(r[0], r[1]): r for part in parts for r in part.facts["repaired"]}
    repaired = sorted(found.values(), key=lambda r: (r[1], r[0]))
    _write_csv(store / "repaired_names.csv", ["name", "character", "code_page"], repaired)
    files = _describe_files(store, parts)
    table = np.bincount(index.labels * 4 + split, minlength=4 * len(charset)).reshape(-1, 4)
    names = splits.SPLIT_NAMES
    return {
        "format": FORMAT,
        "data_hash": data_hash(charset, files),
        "num_samples": num_samples,
        "num_classes": len(charset),
        "counts": dict(zip(names, table.sum(axis=0).tolist(), strict=True)),
        "split": {
            "requested": rule.mode,
            "mode": resolved,
            "seed": rule.seed,
            "test_fraction": rule.test_fraction if resolved != "source" else None,
            "validation_fraction": rule.validation_fraction,
            "validation_mode": rule.validation_mode,
        },
        "charset": {"sha256": charset.sha256, "characters": charset.text},
        "writers": {
            "num_writers": len(index.writer_names),
            "samples_without_writer": int((index.writers < 0).sum()),
            "names": index.writer_names,
        },
        "duplicates": duplicates,
        "repaired_names": {
            "count": len(repaired),
            "code_pages": dict(sorted(Counter(r[2] for r in repaired).items())),
            "first": [
                dict(zip(("name", "character", "code_page"), r, strict=True))
                for r in repaired[:_LISTED]
            ],
        },
        "quarantined": {
            "count": reasons.total(),
            "by_reason": dict(sorted(reasons.items())),
            "first": first_bad,
        },
        "left_out": {"count": left_out.total(), "by_character": dict(sorted(left_out.items()))},
        "counts_per_class": {
            character: dict(zip(names, row, strict=True))
            for character, row in zip(charset, table.tolist(), strict=True)
        },
        "files": files,
    }


@dataclass
class _Index:
    """What is needed of all samples at once; the rest goes to the disk part by part."""

    labels: np.ndarray
    writers: np.ndarray
    source_splits: np.ndarray
    digests: np.ndarray
    writer_names: list[str]


def _characters(parts: list[Part]) -> set[str]:
    codes: set[int] = set()
    for part in parts:
        codes.update(np.unique(part.index()["character"]).tolist())
    return {chr(code) for code in codes}


def _write_index(store: Path, parts: list[Part], num_samples: int, charset: Charset) -> _Index:
    to_label = np.full(max(map(ord, charset)) + 1, -1, np.int32)
    to_label[[ord(character) for character in charset]] = np.arange(len(charset))
    names: dict[str, int] = {}
    index = _Index(
        np.empty(num_samples, np.int32),
        np.empty(num_samples, np.int32),
        np.empty(num_samples, np.int8),
        np.empty((num_samples, 2), np.uint64),
        [],
    )
    streamed = ("parts", "offsets", "heights", "widths", "ids_offsets")
    done = id_end = 0
    files = {name: open(store / f"{name}.npy", "wb") for name in streamed}  # noqa: SIM115
    try:
        with open(store / "ids.bin", "wb") as ids:
            for name, stream in files.items():
                length = num_samples + (name == "ids_offsets")
                np.lib.format.write_array_header_1_0(stream, _header(name, (length,)))
            files["ids_offsets"].write(np.zeros(1, np.int64).tobytes())
            for part in parts:
                rows = part.index()
                end = done + len(rows)
                index.labels[done:end] = to_label[rows["character"]]
                index.source_splits[done:end] = rows["split"]
                index.digests[done:end] = rows["digest"]
                of_part = [names.setdefault(name, len(names)) for name in part.facts["writers"]]
                # The last entry is found by -1, the writer that is not known.
                index.writers[done:end] = np.array([*of_part, -1], np.int32)[rows["writer"]]
                columns = {
                    "parts": np.full(len(rows), part.number, np.int32),
                    "offsets": rows["start"],
                    "heights": rows["height"],
                    "widths": rows["width"],
                    "ids_offsets": rows["id_end"] + id_end,
                }
                for name, values in columns.items():
                    files[name].write(np.ascontiguousarray(values, ARRAYS[name]).data)
                with open(part.file("ids"), "rb") as stream:
                    shutil.copyfileobj(stream, ids)
                id_end += part.facts["files"]["ids"]
                done = end
    finally:
        for stream in files.values():
            stream.close()
    index.writer_names = list(names)
    for name, values in (
        ("labels", index.labels),
        ("writers", index.writers),
        ("digests", index.digests),
    ):
        _save(store, name, values)
    return index


def _header(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    descr = np.lib.format.dtype_to_descr(np.dtype(ARRAYS[name]))
    return {"descr": descr, "fortran_order": False, "shape": shape}


def _save(store: Path, name: str, values: np.ndarray) -> None:
    # Not np.save, which reports a full disk without its error number.
    with open(store / f"{name}.npy", "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, _header(name, values.shape))
        stream.write(np.ascontiguousarray(values, ARRAYS[name]).data)


def _write_duplicates(
    store: Path, charset: Charset, labels: np.ndarray, groups: np.ndarray, split: np.ndarray
) -> dict[str, Any]:
    """Lists all images that occur more than once and returns them in numbers."""
    sizes = np.bincount(groups)
    repeated = np.flatnonzero(sizes[groups] > 1)
    order = repeated[np.argsort(groups[repeated], kind="stable")]
    lowest = np.full(len(sizes), len(charset), np.int32)
    highest = np.full(len(sizes), -1, np.int32)
    np.minimum.at(lowest, groups[order], labels[order])
    np.maximum.at(highest, groups[order], labels[order])
    conflicting = lowest < highest
    held_out = np.zeros(len(sizes), bool)
    held_out[groups[split == splits.DUPLICATE]] = True
    conflicts: dict[int, list[dict[str, str]]] = {}

    def rows() -> Iterator[list[Any]]:
        for i, name in zip(order.tolist(), _read_ids(store, order), strict=True):
            group, character = int(groups[i]), charset.char(int(labels[i]))
            side = splits.SPLIT_NAMES[split[i]]
            if conflicting[group] and (group in conflicts or len(conflicts) < _LISTED):
                conflicts.setdefault(group, []).append(
                    {"sample_id": name, "character": character, "split": side}
                )
            yield [group, name, character, side, int(conflicting[group])]

    head = ["group", "sample_id", "character", "split", "conflicting"]
    _write_csv(store / "duplicates.csv", head, rows())
    return {
        "groups": int((sizes > 1).sum()),
        "extra_copies": int((sizes[sizes > 1] - 1).sum()),
        "groups_across_splits": int(held_out.sum()),
        "held_out": int((split == splits.DUPLICATE).sum()),
        "conflicting_groups": int(conflicting.sum()),
        "conflicting_first": list(conflicts.values()),
    }


def _read_ids(store: Path, indices: np.ndarray) -> Iterator[str]:
    offsets = np.load(store / "ids_offsets.npy", mmap_mode="r")
    with open(store / "ids.bin", "rb") as stream:
        for i in indices.tolist():
            stream.seek(offsets[i])
            yield stream.read(int(offsets[i + 1] - offsets[i])).decode("utf-8")


def _write_quarantine(
    store: Path, parts: list[Part], quarantined: Sequence[Skipped]
) -> list[dict[str, Any]]:
    """Writes all that is quarantined and returns the first entries."""
    path = store / "quarantine.csv"
    rows = [[printable(q.source), q.offset, q.num_bytes, q.reason] for q in quarantined]
    _write_csv(path, QUARANTINE_HEAD, rows)
    with open(path, "ab") as out:
        for part in parts:
            with open(part.file("quarantine"), "rb") as stream:
                shutil.copyfileobj(stream, out)
    with open(path, encoding="utf-8", newline="") as stream:
        first = list(islice(csv.DictReader(stream), _LISTED))
    return [
        {
            "source": row["source"],
            "offset": int(row["offset"]) if row["offset"] else None,
            "num_bytes": int(row["num_bytes"]),
            "reason": row["reason"],
        }
        for row in first
    ]


def _write_csv(path: Path, head: list[str], rows: Iterable[list[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def _describe_files(store: Path, parts: list[Part]) -> dict[str, dict[str, Any]]:
    files: dict[str, dict[str, Any]] = {}
    for name in (
        *(f"{array}.npy" for array in ARRAYS),
        "ids.bin",
        "duplicates.csv",
        "quarantine.csv",
        "repaired_names.csv",
    ):
        path = store / name
        files[name] = {"num_bytes": path.stat().st_size, "sha256": sha256_file(path)}
    for part in parts:
        # Its images' checksums are in `digests.npy`.
        if num_bytes := part.facts["files"]["images"]:
            files[image_file(part.number)] = {"num_bytes": num_bytes}
    return files


def clear(folder: Path) -> None:
    """Empties the work folder of parts, so that reading starts anew."""
    for name in (STORE, PARTS):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
