"""Logits on disk: what a predictor writes and the finalizer reads.

HDF5 with `logits` float32 (N, C), `labels` int32 (N,), `sample_ids` strings (N,), and
with five crops `logits_center` float32 (N, C) for the centre crop alone. Attributes:
`charset` (the characters in class order, one string), `charset_sha256`, `recipe`
(JSON), `split`, `tta`, `blur`, `data_hash`, `weights_sha256`. Any
model's file of this form can be fused.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write

LOGITS = ("logits", "logits_center")


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
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["charset"] = charset.text
        file.attrs["charset_sha256"] = charset.sha256
        for name, value in attributes.items():
            is_plain = not isinstance(value, Mapping)
            file.attrs[name] = value if is_plain else json.dumps(value, ensure_ascii=False)
        for name in names:
            file.create_dataset(name, (num_samples, len(charset)), np.float32)
        file.create_dataset("labels", (num_samples,), np.int32)
        file.create_dataset("sample_ids", (num_samples,), h5py.string_dtype())

        def add(labels, sample_ids, *logits: np.ndarray) -> None:
            nonlocal num_written
            rows = slice(num_written, num_written + len(labels))
            for name, values in zip(names, logits, strict=True):
                file[name][rows] = values
            file["labels"][rows] = labels
            file["sample_ids"][rows] = sample_ids
            num_written = rows.stop

        yield add
        if num_written != num_samples:
            raise HccrError(f"{path} got {num_written} samples, not {num_samples}.")


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
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise HccrError(f"{self.path} is no readable HDF5 file: {error}") from error
        missing = [n for n in ("logits", "labels", "sample_ids") if n not in self._file]
        missing += [a for a in ("charset", "charset_sha256") if a not in self._file.attrs]
        if missing:
            raise HccrError(f"{self.path} is no logits file; it lacks {', '.join(missing)}.")
        self.attributes: dict[str, Any] = dict(self._file.attrs)
        self.charset = Charset.from_text(self.attributes["charset"])
        if self.charset.sha256 != self.attributes["charset_sha256"]:
            raise HccrError(f"{self.path} is damaged: its charset doesn't fit its own hash.")
        self.datasets = [name for name in LOGITS if name in self._file]
        shape = (len(self), len(self.charset))
        for name in self.datasets:
            if self._file[name].shape != shape:
                raise HccrError(
                    f"{self.path} is damaged: {name} is {self._file[name].shape}, not {shape}."
                )
        if not len(self):
            raise HccrError(f"{self.path} holds no samples.")

    def __len__(self) -> int:
        return len(self._file["labels"])

    def __exit__(self, *_) -> None:
        self._file.close()

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
        return self._file["sample_ids"].asstr()[rows].tolist()

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
