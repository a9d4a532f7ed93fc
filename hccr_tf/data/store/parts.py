"""Reading one task of a plan into one part of a store: what workers do.

A part is an image file of the store it will belong to (in `store/` of the work folder) and its
index (in `parts/`). It is there when its `.json` is, which is written last: a part that was begun
and not finished is made again. Memory does not grow with the size of a file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.sources.reader import SourceFile
from hccr_tf.data.sources.records import Record, RepairedName, Sample, SampleBlock, Skipped
from hccr_tf.data.sources.tasks import Container, Task, read_files, task_files
from hccr_tf.data.store import splits
from hccr_tf.data.store.format import digests_of_file, fold_heights, image_file
from hccr_tf.utils.files import StreamWriter, sha256_file

STORE, PARTS = "store", "parts"
"""Folders within the work folder."""

INDEX = np.dtype(
    [
        ("start", "<i8"),
        ("digest", "<u8", 2),
        ("id_end", "<i8"),
        ("character", "<u4"),
        ("writer", "<i4"),
        ("height", "<u2"),
        ("width", "<u2"),
        ("split", "i1"),
    ]
)
"""A sample of a part: first byte in the image file, digest, end of its id in the id file, code
point, place in the part's writer names (-1 for unknown), size in pixels, split (-1 for none)."""

QUARANTINE_HEAD = ["source", "offset", "num_bytes", "reason"]

_KINDS = ("images", "ids", "quarantine", "index")


@dataclass(frozen=True)
class Part:
    """A finished part.

    Attributes:
        folder: The work folder.
        number: Its task's number.
        facts: What its `.json` says: counts, writers' names, repaired names, reasons.
    """

    folder: Path
    number: int
    facts: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, number: int) -> Part | None:
        """Returns a part if it is there and its files have the right sizes, else None."""
        part = cls(folder, number, {})
        try:
            facts = json.loads(part.file("json").read_text(encoding="utf-8"))
            for kind, num_bytes in facts["files"].items():
                if part.file(kind).stat().st_size != num_bytes:
                    return None
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return cls(folder, number, facts)

    def file(self, kind: str) -> Path:
        """The path of one of its files: images, index, ids, quarantine or json."""
        if kind == "images":
            return self.folder / STORE / image_file(self.number)
        return self.folder / PARTS / f"{self.number:05d}.{kind}"

    def index(self) -> np.ndarray:
        """Shape (samples,), `INDEX`."""
        return np.fromfile(self.file("index"), INDEX)

    def is_sound(self) -> bool:
        """Whether its files hold what was written: a crash of the machine may leave others."""
        if sha256_file(self.file("index")) != self.facts["index_sha256"]:
            return False
        index = self.index()
        digests = digests_of_file(
            self.file("images"), index["start"], index["height"], index["width"]
        )
        return bool((digests == index["digest"]).all())


def read_task(
    container: Container,
    task: Task,
    folder: Path,
    charset: Charset | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Reads a task's files into a part.

    Args:
        container: Where the files lie.
        task: Which they are.
        folder: The work folder.
        charset: Samples of other characters are left out and counted; None takes all.
        progress: Called with the sizes of the files that are done.

    Raises:
        OSError: A file cannot be written, or is gone.
        HccrError: A source contradicts itself; see the readers.
    """
    with PartWriter(folder, task.number, charset) as writer:
        for record in read_files(container, _counted(task_files(container, task), progress)):
            writer.add(record)
        writer.finish()


def _counted(
    files: Iterable[SourceFile], progress: Callable[[int], None] | None
) -> Iterable[SourceFile]:
    for file in files:
        yield file
        if progress is not None:
            progress(file.num_bytes)


class PartWriter:
    """Takes records one by one, or by blocks, and writes a part.

    Args:
        folder: The work folder.
        number: The part's number.
        charset: See `read_task`.
    """

    def __init__(self, folder: Path, number: int, charset: Charset | None = None):
        self._part = Part(folder, number, {})
        # Two workers never meet on a part, but one of a killed run may still be writing it.
        self._suffix = f".{uuid.uuid4().hex[:8]}.tmp"
        with ExitStack() as stack:
            self._images = StreamWriter(self._temporary("images"))
            stack.callback(self._images.close)
            self._files = {
                # Written by blocks, so without Python's own buffer.
                kind: stack.enter_context(open(self._temporary(kind), "wb", buffering=0))
                for kind in _KINDS[1:]
            }
            self._open = stack.pop_all()
        self._position = self._id_end = 0
        self._ids: list[bytes] = []
        self._digests = bytearray()
        self._pending: list[tuple] = []
        self._num_samples = 0
        self._index_sha256 = hashlib.sha256()
        self._writers: dict[str, int] = {}
        self._repaired: dict[tuple[str, str], list[str]] = {}
        self._reasons: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._wanted: set[int] | None = None
        if charset is not None:
            self._wanted = {ord(character) for character in charset}

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        for kind in _KINDS:
            self._temporary(kind).unlink(missing_ok=True)

    def _temporary(self, kind: str) -> Path:
        path = self._part.file(kind)
        return path.with_name(path.name + self._suffix)

    def add(self, record: Record) -> None:
        """Takes what a reader yields."""
        if isinstance(record, SampleBlock):
            self._add_block(record)
        elif isinstance(record, Sample):
            self._add_sample(record)
        elif isinstance(record, RepairedName):
            entry = [printable(record.name), record.character, record.code_page]
            self._repaired[record.name, record.character] = entry
        else:
            self._add_quarantined(record)

    def _add_quarantined(self, record: Skipped) -> None:
        row = io.StringIO(newline="")
        csv.writer(row, lineterminator="\n").writerow(
            [printable(record.source), record.offset, record.num_bytes, record.reason]
        )
        _write(self._files["quarantine"], row.getvalue().encode("utf-8"))
        self._reasons[record.reason] += 1

    def _add_sample(self, sample: Sample) -> None:
        if self._wanted is not None and ord(sample.character) not in self._wanted:
            self._left_out[sample.character] += 1
            return
        image = np.ascontiguousarray(sample.image)
        height, width = image.shape
        self._take_pixels([image.reshape(-1).data])
        self._ids.append(printable(sample.source).encode("utf-8"))
        split = -1 if sample.split is None else splits.SPLIT_NAMES.index(sample.split)
        writer = self._writer(sample.writer)
        self._pending.append(([height], [width], [ord(sample.character)], writer, split, 1))
        if len(self._ids) >= 4096:
            self._flush_index()

    def _add_block(self, block: SampleBlock) -> None:
        numbers = np.arange(block.first, block.first + len(block.starts))
        columns = [block.starts, block.heights, block.widths, block.characters, numbers]
        if self._wanted is not None:
            codes, counts = np.unique(block.characters, return_counts=True)
            strange = {
                int(c): int(n) for c, n in zip(codes, counts, strict=True) if c not in self._wanted
            }
            if strange:
                for code, count in strange.items():
                    self._left_out[chr(code)] += count
                keep = ~np.isin(block.characters, list(strange))
                columns = [column[keep] for column in columns]
        starts, heights, widths, characters, numbers = columns
        if not len(starts):
            return
        ends = starts + heights * widths
        pixels = block.buffer
        self._take_pixels(
            [pixels[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        )
        name = printable(block.source).encode("utf-8")
        self._ids += [b"%s#%d" % (name, i) for i in numbers.tolist()]
        split = -1 if block.split is None else splits.SPLIT_NAMES.index(block.split)
        self._pending.append(
            (heights, widths, characters, self._writer(block.writer), split, len(starts))
        )
        self._flush_index()

    def _writer(self, name: str | None) -> int:
        return -1 if name is None else self._writers.setdefault(name, len(self._writers))

    def _take_pixels(self, images: list[memoryview]) -> None:
        sha256 = hashlib.sha256
        self._digests += b"".join([sha256(pixels).digest() for pixels in images])
        self._images.write_all(images)

    def _flush_index(self) -> None:
        if not self._pending:
            return
        counts = [entry[5] for entry in self._pending]
        index = np.empty(sum(counts), INDEX)
        for place, name in enumerate(("height", "width", "character")):
            index[name] = np.concatenate([entry[place] for entry in self._pending])
        for place, name in ((3, "writer"), (4, "split")):
            index[name] = np.repeat([entry[place] for entry in self._pending], counts)
        areas = index["height"].astype(np.int64) * index["width"]
        ends = self._position + np.cumsum(areas)
        index["start"] = ends - areas
        self._position = int(ends[-1])
        lengths = np.fromiter(map(len, self._ids), np.int64, len(self._ids))
        index["id_end"] = self._id_end + np.cumsum(lengths)
        self._id_end = int(index["id_end"][-1])
        digests = np.frombuffer(self._digests, "<u8").reshape(-1, 4)[:, :2]
        index["digest"] = fold_heights(digests, index["height"])
        data = index.tobytes()
        self._index_sha256.update(data)
        _write(self._files["index"], data)
        _write(self._files["ids"], b"".join(self._ids))
        self._num_samples += len(index)
        self._ids, self._pending, self._digests = [], [], bytearray()

    def finish(self) -> None:
        """Writes what is left, and the part is there."""
        self._flush_index()
        self._images.finish()
        self._open.close()
        sizes = {kind: self._temporary(kind).stat().st_size for kind in _KINDS}
        facts = {
            "num_samples": self._num_samples,
            "index_sha256": self._index_sha256.hexdigest(),
            "files": sizes,
            "writers": list(self._writers),
            "repaired": list(self._repaired.values()),
            "reasons": dict(self._reasons),
            "left_out": dict(self._left_out),
        }
        for kind in _KINDS:
            os.replace(self._temporary(kind), self._part.file(kind))
        self._temporary("json").write_text(json.dumps(facts), encoding="utf-8")
        os.replace(self._temporary("json"), self._part.file("json"))


def _write(stream: io.RawIOBase, data: Any) -> None:
    """Writes all of it: a raw file may take less at a time."""
    view = memoryview(data)
    while len(view):
        view = view[stream.write(view) :]


def printable(text: str) -> str:
    """Makes a file name that is no valid UTF-8 (Python marks such bytes) writable."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
