"""The store: pictures at their own size, written once, checked, and memory-mapped for training.

A store is a folder. `manifest.json` says what is in it, in numbers; `quarantine.csv`,
`duplicates.csv` and `repaired_names.csv` list the rest in full. Pictures lie one after another in
`pictures.bin`, and one `.npy` array per property tells where and what they are. The same input
gives the same bytes, and so the same `data_hash`, which results are reported with.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data import splits
from hccr_tf.data.readers import open_source
from hccr_tf.data.samples import Reader, iterate_files
from hccr_tf.data.store_writer import ARRAYS, FORMAT, StoreWriter, data_hash
from hccr_tf.files import atomic_directory, read_json, sha256_file, write_json

MANIFEST = "manifest.json"


class Store:
    """An opened store; samples are numbered from 0 in the order of the sources.

    Attributes:
        path: The store's folder.
        manifest: What `manifest.json` says.
        charset: The characters of the class indices in `labels`, ordered by code point.
        data_hash: Identifies pictures, labels and splits: 64 hexadecimal digits.
        labels: Shape (samples,), int32: class indices.
        split: Shape (samples,), uint8: codes of `splits.SPLIT_NAMES`.
        writers: Shape (samples,), int32: places in the manifest's writer names, -1 for unknown.
        heights, widths: Shape (samples,), uint16: pixels.
        groups: Shape (samples,), int32: equal for identical pictures.

    Raises:
        FileNotFoundError: There is no store at the path, or one of its files is missing.
        ValueError: The store has another format or a file another size than it should.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not (self.path / MANIFEST).is_file():
            raise FileNotFoundError(
                f"{self.path} is no store (it has no {MANIFEST}); make one with `hccr data prepare`"
            )
        self.manifest: dict[str, Any] = read_json(self.path / MANIFEST)
        found = self.manifest.get("format") if isinstance(self.manifest, dict) else None
        if found != FORMAT:
            raise ValueError(
                f"{self.path} has the format {found!r}, and {FORMAT!r} is needed; prepare it again"
            )
        for name, entry in self.manifest["files"].items():
            file = self.path / name
            if not file.is_file():
                raise FileNotFoundError(f"{self.path} is incomplete: {name} is missing")
            if file.stat().st_size != entry["num_bytes"]:
                raise ValueError(
                    f"{file} has {file.stat().st_size} bytes instead of {entry['num_bytes']}; "
                    "prepare the store again"
                )
        self.charset = Charset.from_text(self.manifest["charset"]["characters"])
        if self.charset.sha256 != self.manifest["charset"]["sha256"]:
            raise ValueError(f"{self.path / MANIFEST} was altered: its charset has another hash")
        self.data_hash: str = self.manifest["data_hash"]
        self._pictures = np.memmap(self.path / "pictures.bin", np.uint8, "r").view(np.ndarray)
        self._ids = np.memmap(self.path / "ids.bin", np.uint8, "r").view(np.ndarray)
        for name, dtype in ARRAYS.items():
            values = np.load(self.path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if values.dtype != dtype or values.ndim != 1:
                raise ValueError(f"{self.path / name}.npy is not a vector of {np.dtype(dtype)}")
            setattr(self, name, values.view(np.ndarray))
        if len({len(self.offsets) - 1, len(self.ids_offsets) - 1, len(self.labels)}) != 1:
            raise ValueError(f"{self.path} has index files of different lengths; prepare it again")

    # Declared here as `setattr` in a loop hides them from readers and type checkers.
    offsets: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    writers: np.ndarray
    groups: np.ndarray
    ids_offsets: np.ndarray

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """Opens a store; the same as `Store(path)`."""
        return cls(path)

    def __len__(self) -> int:
        return len(self.labels)

    def verify(self) -> None:
        """Reads every file and compares its checksum.

        Raises:
            ValueError: A file's content changed; the message names all that did.
        """
        files = self.manifest["files"]
        bad = [name for name, e in files.items() if sha256_file(self.path / name) != e["sha256"]]
        if bad:
            raise ValueError(f"{self.path} is damaged: {', '.join(bad)} changed; prepare it again")
        if data_hash(self.charset, files) != self.data_hash:
            raise ValueError(f"{self.path / MANIFEST} was altered: data_hash does not fit it")

    def indices(self, split: str) -> np.ndarray:
        """Returns the samples of a split.

        Args:
            split: "train", "validation", "test", "duplicate" (training copies of test pictures,
                which no other split holds), or "all" for the first three.

        Returns:
            Shape (samples of the split,), int64, ascending.

        Raises:
            ValueError: There is no such split or it is empty; the message names those there are.
        """
        if split == "all":
            return np.flatnonzero(self.split != splits.DUPLICATE)
        chosen = np.empty(0, np.int64)
        if split in splits.SPLIT_NAMES:
            chosen = np.flatnonzero(self.split == splits.SPLIT_NAMES.index(split))
        if not len(chosen):
            counts = self.manifest["counts"]
            there = ", ".join(f"{name} ({n})" for name, n in counts.items() if n)
            raise ValueError(f"{self.path} has no samples in split {split!r}; it has {there}")
        return chosen

    def image(self, index: int) -> np.ndarray:
        """Returns a picture: shape (height, width), uint8, a read-only view of the file."""
        start, end = self.offsets[index], self.offsets[index + 1]
        return self._pictures[start:end].reshape(self.heights[index], self.widths[index])

    def sample_id(self, index: int) -> str:
        """Returns where a sample comes from, as `Sample.source`."""
        start, end = self.ids_offsets[index], self.ids_offsets[index + 1]
        return self._ids[start:end].tobytes().decode("utf-8")

    def sample_ids(self, indices: Iterable[int]) -> list[str]:
        """Returns where samples come from; see `sample_id`."""
        return [self.sample_id(int(i)) for i in indices]

    def labels_for(self, charset: Charset, indices: np.ndarray) -> np.ndarray:
        """Returns class indices of samples under another charset.

        Args:
            charset: A charset that has every character of the store, in any order.
            indices: Shape (n,), the samples.

        Returns:
            Shape (n,), int32.

        Raises:
            ValueError: The charset lacks characters of the store; the message names them.
        """
        missing = [c for c in self.charset if c not in charset]
        if missing:
            more = " …" if len(missing) > 20 else ""
            raise ValueError(
                f"the charset of {len(charset)} characters lacks {len(missing)} of the store "
                f"{self.path}: {' '.join(missing[:20])}{more}"
            )
        table = np.array([charset.index(c) for c in self.charset], np.int32)
        return table[self.labels[indices]]


def prepare(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    split: str = "auto",
    seed: int = 1,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.05,
    overwrite: bool = False,
    progress: bool = True,
) -> Store:
    """Reads sources into a new store.

    Everything unreadable is listed and counted in the store, and reading goes on. The store
    appears under its name only when it is complete. Memory grows with the number of samples (about
    150 bytes each), not with their size.

    Args:
        sources: Files, folders and archives of kinds that `readers.open_source` knows.
        out: The store's folder, which must not exist yet, or be empty.
        split: "auto", "source", "writer" or "shuffle"; see `splits.assign_splits`.
        seed: Seeds the draw of test and validation samples.
        test_fraction: Share of the test set where the source gives none.
        validation_fraction: Share of the training samples that becomes validation.
        overwrite: Whether an earlier store at `out` may be replaced.
        progress: Whether to show a progress bar, if standard error is a terminal.

    Returns:
        The store, opened.

    Raises:
        FileNotFoundError: A source does not exist.
        FileExistsError: `out` exists and is not empty, or is no store that could be replaced.
        ValueError: A source is of no known kind, no sample is readable, or the split is not
            possible with these sources.
        OSError: The disk is full. In every case the state from before is intact.
    """
    out = Path(out)
    paths = [Path(os.path.abspath(source)) for source in sources]
    if not paths:
        raise ValueError("no source given")
    if len(set(paths)) != len(paths):
        raise ValueError("a source is given twice")
    readers = [open_source(path) for path in paths]
    _check_replaceable(out, overwrite, paths)
    if split not in splits.MODES:
        raise ValueError(f"unknown split mode {split!r}; there are {', '.join(splits.MODES)}")
    try:
        with atomic_directory(out, overwrite) as folder, StoreWriter(folder) as writer:
            for path, prefix, reader in zip(paths, _prefixes(paths), readers, strict=True):
                with _progress_bar(path.name, reader, progress) as advance:
                    for record in reader.read(path):
                        writer.add(record, prefix)
                        advance()
            manifest = writer.finish(split, seed, test_fraction, validation_fraction)
            manifest["sources"] = [_describe_source(path) for path in paths]
            write_json(folder / MANIFEST, manifest)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(
                errno.ENOSPC,
                f"the disk is full; {out} was not written and nothing was changed. Free some space "
                "or choose another folder",
            ) from error
        raise
    return Store(out)


def _check_replaceable(out: Path, overwrite: bool, sources: list[Path]) -> None:
    for source in sources:
        if Path(os.path.abspath(out)).is_relative_to(source):
            raise ValueError(f"{out} lies inside the source {source}; choose another folder")
        if source.is_relative_to(os.path.abspath(out)):
            raise ValueError(f"the source {source} lies inside {out}; choose another folder")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    # A mistyped path must not cost a folder that was never a store.
    if not (out / MANIFEST).is_file():
        raise FileExistsError(f"{out} exists and is no store; choose another folder")
    if not overwrite:
        raise FileExistsError(f"{out} exists; use --overwrite to replace it")


def _prefixes(paths: list[Path]) -> list[str]:
    """Returns what goes before sample ids, so that sources of one name stay apart."""
    names = [path.name for path in paths]
    return [
        f"{path.parent.as_posix().lstrip('/')}/" if names.count(path.name) > 1 else ""
        for path in paths
    ]


def _describe_source(path: Path) -> dict[str, Any]:
    if path.is_file():
        return {
            "name": path.name,
            "num_bytes": path.stat().st_size,
            "sha256": sha256_file(path),
            "sha256_of": "content",
        }
    # Reading a folder's files a second time would double the time. The pixels that were read are
    # under the hash of pictures.bin anyway.
    digest, num_bytes, num_files = hashlib.sha256(), 0, 0
    for file in iterate_files(path):
        name = file.name.encode("utf-8", "surrogateescape")
        digest.update(b"%s\0%d\n" % (name, file.num_bytes))
        num_bytes += file.num_bytes
        num_files += 1
    return {
        "name": path.name,
        "num_bytes": num_bytes,
        "num_files": num_files,
        "sha256": digest.hexdigest(),
        "sha256_of": "names and sizes",
    }


@contextlib.contextmanager
def _progress_bar(name: str, reader: Reader, wanted: bool) -> Iterator[Callable[[], None]]:
    """Yields a function to call after every record; it does nothing without a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    calls = 0
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)

        def advance() -> None:
            nonlocal calls
            calls += 1
            if calls % 256 == 0:
                bar.update(task, completed=reader.done, total=reader.total or None)

        yield advance
        bar.update(task, completed=reader.total, total=reader.total)


def summary(store: Store) -> str:
    """Describes a store in a few lines of text, for `hccr data show`."""
    m = store.manifest
    counts, rule, charset = m["counts"], m["split"], m["charset"]
    duplicates, repaired, bad = m["duplicates"], m["repaired_names"], m["quarantined"]
    names = [name for name in splits.SPLIT_NAMES if counts[name]]
    lines = [
        f"store       {store.path}",
        f"data hash   {store.data_hash}",
        f"samples     {m['num_samples']:,} in {m['num_classes']:,} classes",
        "splits      " + ", ".join(f"{name} {counts[name]:,}" for name in names),
        f"            by {rule['mode']}, seed {rule['seed']}",
        f"writers     {m['writers']['num_writers']:,}"
        + (
            f" (unknown for {m['writers']['samples_without_writer']:,} samples)"
            if m["writers"]["samples_without_writer"]
            else ""
        ),
        f"pictures    {_range(store.widths)} wide, {_range(store.heights)} high (pixels, "
        "5 % to 95 %)",
        f"charset     {_shortened(charset['characters'])} (SHA-256 {charset['sha256'][:12]}…)",
    ]
    totals = np.bincount(store.labels, minlength=len(store.charset))
    order = np.argsort(-totals, kind="stable")
    for title, chosen in (("most", order[:8]), ("fewest", order[::-1][:8])):
        classes = "  ".join(f"{store.charset.char(int(i))} {totals[i]:,}" for i in chosen)
        lines.append(f"{title:<12}{classes}")
    lines.append(
        f"duplicates  {duplicates['groups']:,} pictures occur more than once "
        f"({duplicates['extra_copies']:,} extra copies)"
    )
    if duplicates["held_out"]:
        lines.append(
            f"            {duplicates['groups_across_splits']:,} of them in more than one split; "
            f"{duplicates['held_out']:,} training copies held out"
        )
    if duplicates["conflicting_groups"]:
        lines.append(
            f"            {duplicates['conflicting_groups']:,} under more than one character "
            "(duplicates.csv):"
        )
        for group in duplicates["conflicting_first"][:5]:
            ids = ", ".join(f"{c['character']} {c['sample_id']}" for c in group)
            lines.append(f"              {ids}")
    if repaired["count"]:
        pages = ", ".join(f"{page} {n:,}" for page, n in repaired["code_pages"].items())
        first = repaired["first"][0]
        lines.append(
            f"repaired    {repaired['count']:,} class names ({pages}), such as "
            f"{first['name']} → {first['character']} (repaired_names.csv)"
        )
    lines.append(f"quarantined {bad['count']:,}")
    lines += [f"            {reason}: {n:,}" for reason, n in bad["by_reason"].items()]
    lines += [f"              {entry['source']}" for entry in bad["first"][:5]]
    if bad["count"] > 5:
        lines.append("              … (quarantine.csv)")
    lines += [
        f"source      {source['name']} ({source['num_bytes']:,} bytes, "
        f"SHA-256 {source['sha256'][:12]}… of its {source['sha256_of']})"
        for source in m["sources"]
    ]
    return "\n".join(lines)


def _range(values: np.ndarray) -> str:
    low, high = np.percentile(values, (5, 95)).round().astype(int)
    return f"{low} to {high}"


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:20]} … {text[-20:]}"
