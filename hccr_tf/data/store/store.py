"""The store: images at their own size, written once, checked, and memory-mapped for training.

A store is a folder. `manifest.json` says what is in it, in numbers; `skipped.csv`,
`duplicates.csv` and `repaired_names.csv` list the rest in full. Images lie one after another in
the files `images-*.bin`, and one `.npy` array per property tells where and what they are. The
same input gives the same bytes, whatever the number of workers, and so the same `data_hash`, which
results are reported with.

Why memory-mapped bytes and not HDF5 or records: `benchmarks/store_formats.py` measures them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.store import splits
from hccr_tf.data.store.format import (
    ARRAYS,
    FORMAT,
    MANIFEST,
    OLD_IMAGE_WORD,
    OLD_SKIPPED_FILE,
    SKIPPED_FILE,
    STROKES_FORMAT,
    array_file,
    data_hash,
    fold_heights,
    image_file,
)
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import read_json, sha256_file


class Store:
    """An opened store; samples are numbered from 0 in the order of the sources.

    Attributes:
        path, manifest, charset, data_hash: As in `Dataset`; the charset is ordered by code point
            unless the store was prepared under one.
        labels: Shape (samples,), int32: class indices.
        split: Shape (samples,), uint8: codes of `splits.SPLIT_NAMES`.
        writers: Shape (samples,), int32: places in the manifest's writer names, -1 for unknown.
        heights, widths: Shape (samples,), uint16: pixels.
        groups: Shape (samples,), int32: equal for identical images.
        shards, offsets: Shape (samples,), int32 and int64: number of the image file, first byte.
        digests: Shape (samples, 2), uint64: the first half of the SHA-256 of an image's pixels,
            its height folded in.

    Raises:
        FileNotFoundError: There is no store at the path, or one of its files is missing.
        HccrError: The store has another format or a file another size than it should.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not (self.path / MANIFEST).is_file():
            raise FileNotFoundError(
                f"{self.path} is no store (it has no {MANIFEST}); make one with `hccr data prepare`"
            )
        self.manifest: dict[str, Any] = read_json(self.path / MANIFEST)
        kind = self.manifest.get("format") if isinstance(self.manifest, dict) else None
        if kind == STROKES_FORMAT:
            raise HccrError(
                f"{self.path} is a store of strokes, which are drawn in training and calibrated "
                "with, and not taken here; give a store of images (hccr data prepare)"
            )
        if kind != FORMAT:
            raise HccrError(
                f"{self.path} has the format {kind!r}, and {FORMAT!r} is needed; prepare it again"
            )
        if "quarantined" in self.manifest:  # as stores once called it
            self.manifest["skipped"] = self.manifest.pop("quarantined")
        for name, entry in self.manifest["files"].items():
            file = self.path / name
            if not file.is_file():
                raise FileNotFoundError(f"{self.path} is incomplete: {name} is missing")
            if file.stat().st_size != entry["num_bytes"]:
                raise HccrError(
                    f"{file} has {file.stat().st_size} bytes instead of {entry['num_bytes']}; "
                    "prepare the store again"
                )
        self.charset = Charset.from_text(self.manifest["charset"]["characters"])
        if self.charset.sha256 != self.manifest["charset"]["sha256"]:
            raise HccrError(f"{self.path / MANIFEST} was altered: its charset has another hash")
        self.data_hash: str = self.manifest["data_hash"]
        self._maps: dict[int, np.ndarray] = {}
        self._ids = np.memmap(self.path / "ids.bin", np.uint8, "r").view(np.ndarray)
        for name in ARRAYS:
            values = np.load(self.path / array_file(name), mmap_mode="r", allow_pickle=False)
            setattr(self, name, values.view(np.ndarray))

    # Declared here as `setattr` in a loop hides them from readers and type checkers.
    shards: np.ndarray
    offsets: np.ndarray
    digests: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    writers: np.ndarray
    groups: np.ndarray
    ids_offsets: np.ndarray

    @property
    def skipped_path(self) -> Path:
        """The list of what was not read: columns source, offset, num_bytes, reason."""
        path = self.path / SKIPPED_FILE
        return path if path.is_file() else self.path / OLD_SKIPPED_FILE

    def __len__(self) -> int:
        return len(self.labels)

    def verify(self) -> None:
        """Reads every file and compares its checksum, and every image's.

        Raises:
            HccrError: Something changed; the message names the files, and images by their ids.
        """
        files = self.manifest["files"]
        hashes = {name: entry["sha256"] for name, entry in files.items() if "sha256" in entry}
        bad = [name for name, sha256 in hashes.items() if sha256_file(self.path / name) != sha256]
        if bad:
            raise HccrError(f"{self.path} is damaged: {', '.join(bad)} changed; prepare it again")
        if data_hash(self.charset, files) != self.data_hash:
            raise HccrError(f"{self.path / MANIFEST} was altered: data_hash does not fit it")
        for number in np.unique(self.shards).tolist():
            chosen = self.samples_of_shard(number)
            heights, path = self.heights[chosen], self.image_path(number)
            areas = heights.astype(np.int64) * self.widths[chosen]
            with open(path, "rb") as stream:
                digests = [hashlib.sha256(stream.read(n)).digest()[:16] for n in areas.tolist()]
            found = fold_heights(np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2), heights)
            wrong = chosen[(found != self.digests[chosen]).any(axis=1)]
            if len(wrong):
                more = " …" if len(wrong) > 5 else ""
                raise HccrError(
                    f"{self.path} is damaged: {path.name} changed in {len(wrong)} images "
                    f"({', '.join(self.sample_ids(wrong[:5]))}{more}); prepare it again"
                )

    def image_path(self, number: int) -> Path:
        """Returns where a shard's images lie."""
        name = image_file(number)
        if name not in self.manifest["files"]:
            name = name.replace("images", OLD_IMAGE_WORD)
        return self.path / name

    def indices(self, split: str) -> np.ndarray:
        """Returns the samples of a split, int64 (n,), ascending.

        Args:
            split: "train", "validation", "test", "duplicate" (training copies of test images,
                which no other split holds), or "all" for the first three.

        Raises:
            HccrError: There is no such split or it is empty; the message names those there are.
        """
        counts = self.manifest["counts"]
        if split == "all":
            return np.flatnonzero(self.split != splits.DUPLICATE)
        if not counts.get(split):
            there = ", ".join(f"{name} ({n})" for name, n in counts.items() if n)
            raise HccrError(f"{self.path} has no samples in split {split!r}; it has {there}")
        return np.flatnonzero(self.split == splits.SPLIT_NAMES.index(split))

    def at_epoch(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        """Returns the samples that an epoch reads for those of epoch 0: the same in every epoch."""
        return indices

    def image(self, index: int) -> np.ndarray:
        """Returns an image: shape (height, width), uint8, a read-only view of the file."""
        return self.images(np.array([index]))[0]

    def images(self, indices: np.ndarray) -> list[np.ndarray]:
        """Returns images, each shape (height, width), uint8, a read-only view of its file."""
        columns = (self.shards, self.offsets, self.heights, self.widths)
        rows = zip(*(column[indices].tolist() for column in columns), strict=True)
        array, uint8, map_of = np.ndarray, np.uint8, self._map_of
        return [array((h, w), uint8, map_of(shard), start) for shard, start, h, w in rows]

    def samples_of_shard(self, number: int) -> np.ndarray:
        """Returns the samples whose images lie in one image file, ascending."""
        # Shards are in order.
        return np.arange(*np.searchsorted(self.shards, [number, number + 1]))

    def _map_of(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            # Views of a plain array are cheaper than those of a memmap.
            pixels = np.memmap(self.image_path(shard), np.uint8, "r").view(np.ndarray)
            self._maps[shard] = pixels
        return self._maps[shard]

    def sample_id(self, index: int) -> str:
        """Returns where a sample comes from, as `Sample.source`."""
        start, end = self.ids_offsets[index], self.ids_offsets[index + 1]
        return self._ids[start:end].tobytes().decode("utf-8")

    def sample_ids(self, indices: Iterable[int]) -> list[str]:
        """Returns where samples come from."""
        return [self.sample_id(int(i)) for i in indices]

    def labels_for(self, charset: Charset, indices: np.ndarray) -> np.ndarray:
        """Returns class indices of samples under another charset, int32 (n,).

        Raises:
            HccrError: The charset lacks characters of the store; the message names them.
        """
        if missing := [c for c in self.charset if c not in charset]:
            more = " …" if len(missing) > 20 else ""
            raise HccrError(
                f"the charset of {len(charset)} characters lacks {len(missing)} of the store "
                f"{self.path}: {' '.join(missing[:20])}{more}"
            )
        table = np.array([charset.index(c) for c in self.charset], np.int32)
        return table[self.labels[indices]]


def summary(store: Store) -> str:
    """Describes a store in a few lines of text, for `hccr data show`."""
    m = store.manifest
    rule, charset, duplicates = m["split"], m["charset"], m["duplicates"]
    repaired, skipped, left_out = m["repaired_names"], m["skipped"], m["left_out"]
    split = f"by {rule['mode']}, seed {rule['seed']}"
    if rule.get("validation_mode", "auto") != "auto":
        split += f", validation by {rule['validation_mode']}"
    writers = f"{m['writers']['num_writers']:,}"
    if unknown := m["writers"]["samples_without_writer"]:
        writers += f" (unknown for {unknown:,} samples)"
    sizes = f"{_range(store.widths)} wide, {_range(store.heights)} high (pixels, 5 % to 95 %)"
    lines = [
        ("store", f"{store.path}"),
        ("data hash", store.data_hash),
        ("samples", f"{m['num_samples']:,} in {m['num_classes']:,} classes"),
        ("splits", ", ".join(f"{name} {n:,}" for name, n in m["counts"].items() if n)),
        ("", split),
        ("writers", writers),
        ("images", sizes),
    ]
    if m.get("photographs"):
        lines.append(("", "cleaned, as scans and photographs"))
    characters = _shortened(charset["characters"])
    lines.append(("charset", f"{characters} (SHA-256 {charset['sha256'][:12]}…)"))
    lines += [("checked", check["text"]) for check in m["known_sets"]["checks"]]
    totals = np.bincount(store.labels, minlength=len(store.charset))
    order = np.argsort(-totals, kind="stable")
    for title, chosen in (("most", order[:8]), ("fewest", order[::-1][:8])):
        classes = (f"{store.charset.char(int(i))} {totals[i]:,}" for i in chosen)
        lines.append((title, "  ".join(classes)))
    copies = f"({duplicates['extra_copies']:,} extra copies)"
    lines.append(("duplicates", f"{duplicates['groups']:,} images occur more than once {copies}"))
    if duplicates["held_out"]:
        across, held_out = duplicates["groups_across_splits"], duplicates["held_out"]
        text = f"{across:,} of them in more than one split; {held_out:,} training copies held out"
        lines.append(("", text))
    if conflicting := duplicates["conflicting_groups"]:
        lines.append(("", f"{conflicting:,} under more than one character (duplicates.csv):"))
        for group in duplicates["conflicting_first"][:5]:
            ids = ", ".join(f"{c['character']} {c['sample_id']}" for c in group)
            lines.append(("", f"  {ids}"))
    if repaired["count"]:
        pages = ", ".join(f"{page} {n:,}" for page, n in repaired["code_pages"].items())
        example = "{name} → {character}".format(**repaired["first"][0])
        text = f"{repaired['count']:,} class names ({pages}), such as {example}"
        lines.append(("repaired", f"{text} (repaired_names.csv)"))
    if left_out["count"]:
        characters = "".join(left_out["by_character"])
        text = f"{left_out['count']:,} samples of {len(characters):,} characters outside of the"
        lines.append(("left out", f"{text} charset ({_shortened(characters)})"))
    lines.append(("skipped", f"{skipped['count']:,}"))
    lines += [("", f"{reason}: {n:,}") for reason, n in skipped["by_reason"].items()]
    lines += [("", f"  {entry['source']}") for entry in skipped["first"][:5]]
    if skipped["count"] > 5:
        lines.append(("", f"  … ({store.skipped_path.name})"))
    lines += [
        (
            "source",
            f"{source['name']} ({source['num_bytes']:,} bytes, SHA-256 {source['sha256'][:12]}… "
            f"of its {source['sha256_of']})",
        )
        for source in m["sources"]
    ]
    return "\n".join(f"{title:<12}{text}" for title, text in lines)


def _range(values: np.ndarray) -> str:
    low, high = np.percentile(values, (5, 95)).round().astype(int)
    return f"{low} to {high}"


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:20]} … {text[-20:]}"
