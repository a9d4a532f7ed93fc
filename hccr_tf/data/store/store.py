"""The store: images at their own size, written once, checked, and memory-mapped for training.

A store is a folder. `manifest.json` says what is in it, in numbers; `skipped.csv`,
`duplicates.csv` and `repaired_names.csv` list the rest in full. Images lie one after another in
the files `images-*.bin`, and one `.npy` array per property tells where and what they are. The
same input gives the same bytes, whatever the number of workers, and so the same `data_hash`, which
results are reported with.

Why memory-mapped bytes and not HDF5 or records: `benchmarks/store_formats.py` measures them.
"""

import hashlib
import os
from collections.abc import Iterable

import numpy as np

from hccr_tf.data.dataset import Dataset, shortened
from hccr_tf.data.store import splits
from hccr_tf.data.store.format import (
    ARRAYS,
    FORMAT,
    MANIFEST,
    SKIPPED_FILE,
    STORE_SCHEMA,
    array_file,
    data_hash,
    fold_heights,
    image_file,
)
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.schema import check_range, decoding, read_array


class Store(Dataset):
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
    """

    format = FORMAT
    schema = STORE_SCHEMA
    remedy = "hccr data prepare"

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__(path)
        self._maps: dict[int, np.ndarray] = {}
        again, length = f"make the store again with `{self.remedy}`", self.manifest["num_samples"]
        for name, kind in ARRAYS.items():
            columns = (2,) if name == "digests" else ()
            rows = length + (name == "ids_offsets")
            file = self.path / array_file(name)
            setattr(self, name, read_array(file, kind, *columns, length=rows, remedy=again))
        with decoding(self.path / "ids.bin", again):
            self._ids = np.memmap(self.path / "ids.bin", np.uint8, "r").view(np.ndarray)
        self._check_index(again)
        if data_hash(self.charset, self.manifest["files"]) != self.data_hash:
            raise HccrError(f"{self.path / MANIFEST} was altered: data_hash does not fit it")

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

    def __len__(self) -> int:
        return len(self.labels)

    def _check_index(self, remedy: str) -> None:
        """Checks that the index points into the files: memory is read where it says."""
        files, writers = self.manifest["files"], self.manifest["writers"]["names"]
        check_range(self.shards, 0, len(self), self.path / array_file("shards"), remedy)
        shards = map(image_file, range(int(self.shards.max(initial=0)) + 1))
        room = np.array([files[name]["num_bytes"] if name in files else 0 for name in shards])
        areas = self.heights.astype(np.int64) * self.widths
        for name, values, least, most in (
            ("shards", np.diff(self.shards), 0, len(self)),
            ("labels", self.labels, 0, len(self.charset) - 1),
            ("split", self.split, 0, len(splits.SPLIT_NAMES) - 1),
            ("writers", self.writers, -1, len(writers) - 1),
            ("groups", self.groups, 0, len(self) - 1),
            ("heights", self.heights, 1, 65535),
            ("widths", self.widths, 1, 65535),
            ("offsets", self.offsets, 0, room[self.shards] - areas),
            ("ids_offsets", self.ids_offsets, 0, len(self._ids)),
            ("ids_offsets", np.diff(self.ids_offsets), 0, len(self._ids)),
        ):
            check_range(values, least, most, self.path / array_file(name), remedy)

    def verify(self) -> None:
        """Reads every image and compares its checksum; those of other files are at opening.

        Raises:
            HccrError: Something changed; the message names the file, and images by their ids.
        """
        for number in np.unique(self.shards).tolist():
            chosen = self.samples_of_shard(number)
            heights, path = self.heights[chosen], self.path / image_file(number)
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

    def class_indices(self, indices: np.ndarray) -> np.ndarray:
        """Returns class indices under the store's own charset, int32 (n,)."""
        return self.labels[indices]

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
            pixels = np.memmap(self.path / image_file(shard), np.uint8, "r").view(np.ndarray)
            self._maps[shard] = pixels
        return self._maps[shard]

    def sample_id(self, index: int) -> str:
        """Returns where a sample comes from, as `Sample.source`."""
        start, end = self.ids_offsets[index], self.ids_offsets[index + 1]
        return self._ids[start:end].tobytes().decode("utf-8", "backslashreplace")

    def sample_ids(self, indices: Iterable[int]) -> list[str]:
        """Returns where samples come from."""
        return [self.sample_id(int(i)) for i in indices]

    def _facts(self) -> list[tuple[str, str]]:
        m = self.manifest
        rule, charset, duplicates = m["split"], m["charset"], m["duplicates"]
        repaired, skipped, left_out = m["repaired_names"], m["skipped"], m["left_out"]
        split = f"by {rule['mode']}, seed {rule['seed']}"
        if rule.get("validation_mode", "auto") != "auto":
            split += f", validation by {rule['validation_mode']}"
        writers = f"{m['writers']['num_writers']:,}"
        if unknown := m["writers"]["samples_without_writer"]:
            writers += f" (unknown for {unknown:,} samples)"
        sizes = f"{_range(self.widths)} wide, {_range(self.heights)} high (pixels, 5 % to 95 %)"
        lines = [
            ("samples", f"{m['num_samples']:,} in {m['num_classes']:,} classes"),
            ("splits", ", ".join(f"{name} {n:,}" for name, n in m["counts"].items() if n)),
            ("", split),
            ("writers", writers),
            ("images", sizes),
        ]
        if m.get("photographs"):
            lines.append(("", "cleaned, as scans and photographs"))
        characters = shortened(charset["characters"])
        lines.append(("charset", f"{characters} (SHA-256 {charset['sha256'][:12]}…)"))
        lines += [("checked", check["text"]) for check in m["known_sets"]["checks"]]
        totals = np.bincount(self.labels, minlength=len(self.charset))
        order = np.argsort(-totals, kind="stable")
        for title, chosen in (("most", order[:8]), ("fewest", order[::-1][:8])):
            classes = (f"{self.charset.char(int(i))} {totals[i]:,}" for i in chosen)
            lines.append((title, "  ".join(classes)))
        copies = f"images occur more than once ({duplicates['extra_copies']:,} extra copies)"
        lines.append(("duplicates", f"{duplicates['groups']:,} {copies}"))
        if duplicates["held_out"]:
            text = f"{duplicates['groups_across_splits']:,} of them in more than one split; "
            lines.append(("", f"{text}{duplicates['held_out']:,} training copies held out"))
        if conflicting := duplicates["conflicting_groups"]:
            lines.append(("", f"{conflicting:,} under more than one character (duplicates.csv):"))
            for group in duplicates["conflicting_first"][:5]:
                ids = ", ".join(f"{c['character']} {c['sample_id']}" for c in group)
                lines.append(("", f"  {ids}"))
        if repaired["first"]:
            pages = ", ".join(f"{page} {n:,}" for page, n in repaired["code_pages"].items())
            example = "{name} → {character}".format(**repaired["first"][0])
            text = f"{repaired['count']:,} class names ({pages}), such as {example}"
            lines.append(("repaired", f"{text} (repaired_names.csv)"))
        if left_out["count"]:
            characters = "".join(left_out["by_character"])
            text = f"{left_out['count']:,} samples of {len(characters):,} characters outside"
            lines.append(("left out", f"{text} of the charset ({shortened(characters)})"))
        lines.append(("skipped", f"{skipped['count']:,}"))
        lines += [("", f"{reason}: {n:,}") for reason, n in skipped["by_reason"].items()]
        lines += [("", f"  {entry['source']}") for entry in skipped["first"][:5]]
        if skipped["count"] > 5:
            lines.append(("", f"  … ({SKIPPED_FILE})"))
        for source in m["sources"]:
            checksum = f"SHA-256 {source['sha256'][:12]}… of its {source['sha256_of']}"
            lines.append(
                ("source", f"{source['name']} ({source['num_bytes']:,} bytes, {checksum})")
            )
        return lines


def _range(values: np.ndarray) -> str:
    low, high = np.percentile(values, (5, 95)).round().astype(int)
    return f"{low} to {high}"
