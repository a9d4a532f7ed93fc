"""Logits on disk: what a predictor writes and the finalizer reads.

HDF5 with `logits` float32 (N, C), `labels` int32 (N,), `sample_ids` UTF-8 strings (N,), and
with five crops `logits_center` float32 (N, C) for the centre crop alone. Attributes:
`charset` (the characters in class order, one string), `charset_sha256`, `recipe`
(JSON), `split`, `tta`, `blur`, `data_hash`, `weights_sha256`. Strings are of fixed length, arrays
contiguous. Any model's file of this form can be fused, once `seal` has written the checksum of all
that follows into its first 512 bytes, HDF5's user block: a damaged file is told before the HDF5
library sees it.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write
from hccr_tf.utils.schema import check, decoding, open_hdf5, parse_json

LOGITS = ("logits", "logits_center")
_BLOCK = 512  # the least that HDF5 leaves to its users
_ATTRIBUTES = {
    **dict.fromkeys(("charset", "charset_sha256"), str),
    **dict.fromkeys(("recipe?", "split?", "tta?", "data_hash?", "weights_sha256?"), str),
}
_REMEDY = "predict again (hccr evaluate)"


@contextlib.contextmanager
def write_logits(
    path: str | Path,
    num_samples: int,
    charset: Charset,
    attributes: Mapping[str, Any],
    *,
    center: bool = False,
) -> Iterator[Callable[..., None]]:
    """Writes a logits file of N samples atomically, in rows as they come.

    Of the attributes mappings are written as JSON; with `center` the file also holds the centre
    crop's logits.

    Yields:
        `add(labels, sample_ids, *logits)`, which appends B rows: int (B,), B strings, and float
        (B, C) for each logits dataset.

    Raises:
        HccrError: the block wrote another number of rows; no file is left then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names, num_written = LOGITS[: 1 + center], 0
    with atomic_write(path) as temporary:
        with h5py.File(temporary, "w", userblock_size=_BLOCK) as file:
            own = {"charset": charset.text, "charset_sha256": charset.sha256}
            for name, value in {**own, **attributes}.items():
                if isinstance(value, Mapping):
                    value = json.dumps(value, ensure_ascii=False)
                is_text = isinstance(value, str)
                file.attrs[name] = np.bytes_(value.encode("utf-8")) if is_text else value
            for name in names:
                file.create_dataset(name, (num_samples, len(charset)), np.float32)
            file.create_dataset("labels", (num_samples,), np.int32)
            file.create_dataset("sample_ids", (num_samples,), h5py.string_dtype(length=64))

            def add(labels, sample_ids, *logits: np.ndarray) -> None:
                nonlocal num_written
                rows = slice(num_written, num_written + len(labels))
                for name, values in zip(names, logits, strict=True):
                    file[name][rows] = values
                file["labels"][rows] = labels
                encoded = np.array([text.encode("utf-8") for text in sample_ids], np.bytes_)
                if encoded.dtype.itemsize > file["sample_ids"].dtype.itemsize:
                    earlier = file["sample_ids"][:]
                    del file["sample_ids"]
                    kind = h5py.string_dtype(length=2 * encoded.dtype.itemsize)
                    file.create_dataset("sample_ids", (num_samples,), kind)[:] = earlier
                file["sample_ids"][rows] = encoded.astype(file["sample_ids"].dtype)
                num_written = rows.stop

            yield add
            if num_written != num_samples:
                raise HccrError(f"{path} got {num_written} samples, not {num_samples}.")
        seal(temporary)


def seal(path: str | Path) -> None:
    """Writes the checksum of a logits file, whose user block has 512 bytes, into that block."""
    with open(path, "r+b") as file:
        file.write(_checksum(file).ljust(_BLOCK, b"\0"))


def _checksum(file: io.BufferedRandom | io.BufferedReader) -> bytes:
    """The user block for what follows it; leaves the file at its begin."""
    file.seek(_BLOCK)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return b"hccr_tf logits 2, SHA-256 of what follows these 512 bytes: " + digest.encode()


class LogitsFile(contextlib.AbstractContextManager):
    """Reads a logits file in pieces; a context manager, which closes it.

    `datasets` are "logits" and, where the file has it, "logits_center".

    Raises:
        HccrError: the file, which is named, is missing, unreadable, or not of this form.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise HccrError(f"There is no logits file {self.path}; a predictor writes one.")
        with open(self.path, "rb") as stream:
            if _checksum(stream) != stream.read(_BLOCK).rstrip(b"\0"):
                raise HccrError(
                    f"{self.path} is damaged, of an earlier version or no logits file: what it "
                    f"begins with isn't the checksum of the rest; {_REMEDY}"
                )
        arrays = (*LOGITS[:1], "labels", "sample_ids")
        self._opened = contextlib.ExitStack()
        self._file = self._opened.enter_context(open_hdf5(self.path, arrays, _REMEDY))
        with decoding(self.path, _REMEDY):
            kept = self._file.attrs
            stored = {n: kept[n] for n in kept if not kept.get_id(n).dtype.hasobject}
            texts = {k: v.decode("utf-8") for k, v in stored.items() if isinstance(v, bytes)}
            found = {name: (a.dtype.str[1], a.shape) for name, a in self._file.items()}
        self.attributes: dict[str, Any] = stored | texts
        check(self.attributes, _ATTRIBUTES, self.path, _REMEDY)
        self.charset = Charset.from_text(texts["charset"])
        if self.charset.sha256 != texts["charset_sha256"]:
            raise HccrError(f"{self.path} is damaged: its charset doesn't fit its own hash.")
        self.datasets = [name for name in LOGITS if name in found]
        rows = found["sample_ids"][1][:1]
        wanted = {"sample_ids": ("S", rows), "labels": ("i", rows)}
        wanted |= dict.fromkeys(self.datasets, ("f", (*rows, len(self.charset))))
        for name, kind in wanted.items():
            if found[name] != kind:
                what = f"{name} is {found[name]}, not {kind}"
                raise HccrError(f"{self.path} is damaged: {what}; {_REMEDY}")
        if not len(self):
            raise HccrError(f"{self.path} holds no samples.")

    def __len__(self) -> int:
        return len(self._file["labels"])

    def __exit__(self, *_) -> None:
        self._opened.close()

    @property
    def recipe_name(self) -> str | None:
        """The recipe of the run that it was predicted with, if it says so."""
        recipe = parse_json(self.attributes.get("recipe", "{}"), self.path, {"name?": str}, _REMEDY)
        return recipe.get("name")

    def labels(self, rows: slice) -> np.ndarray:
        """int32 (B,); HccrError naming the sample where one is no class of the charset."""
        values = self._file["labels"][rows]
        bad = (values < 0) | (values >= len(self.charset))
        if bad.any():
            first = int(bad.argmax())
            raise HccrError(
                f"{self.path}: the label {values[first]} of sample {self.sample_ids(rows)[first]} "
                f"is no class of its {len(self.charset)} characters."
            )
        return values

    def sample_ids(self, rows: slice) -> list[str]:
        """B strings."""
        with decoding(self.path, _REMEDY):
            return [text.decode("utf-8") for text in self._file["sample_ids"][rows].tolist()]

    def logits(self, rows: slice, dataset: str = "logits") -> np.ndarray:
        """float32 (B, C); HccrError naming the sample where one isn't finite."""
        values = self._file[dataset][rows]
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            name = self.sample_ids(rows)[int(bad.argmax())]
            raise HccrError(
                f"{self.path}: the {dataset} of sample {name} aren't finite. Predict again from "
                "weights that didn't diverge."
            )
        return values

    def chunks(self) -> Iterator[slice]:
        """Row ranges of about 32 MiB of logits."""
        rows = max(1, (32 << 20) // (4 * len(self.charset)))
        for start in range(0, len(self), rows):
            yield slice(start, min(start + rows, len(self)))


@contextlib.contextmanager
def open_same_samples(paths: Sequence[str | Path]) -> Iterator[list[LogitsFile]]:
    """Opens logits files that agree in charset, samples and labels.

    Raises:
        HccrError: no files, one of them twice, or two that differ; their first difference is named.
    """
    if not paths:
        raise HccrError("Name at least one logits file.")
    if len({Path(path).resolve() for path in paths}) != len(paths):
        raise HccrError("A logits file is named twice; raise its weight instead.")
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(LogitsFile(path)) for path in paths]
        for other in files[1:]:
            _compare(files[0], other)
        yield files


def _compare(first: LogitsFile, other: LogitsFile) -> None:
    pair = f"{first.path} and {other.path}"
    if first.charset.sha256 != other.charset.sha256:
        difference = first.charset.difference(other.charset)
        raise HccrError(f"{pair} have different charsets: {difference}")
    if len(first) != len(other):
        raise HccrError(f"{pair} hold different samples: {len(first)} and {len(other)} of them.")
    for rows in first.chunks():
        mine, theirs = first.sample_ids(rows), other.sample_ids(rows)
        for i, (a, b) in enumerate(zip(mine, theirs, strict=True), rows.start):
            if a != b:
                raise HccrError(
                    f"{pair} hold different samples: number {i} is {a} in one and {b} in the other."
                )
        differ = np.flatnonzero(first.labels(rows) != other.labels(rows))
        if len(differ):
            raise HccrError(f"{pair} give sample {mine[differ[0]]} different labels.")
