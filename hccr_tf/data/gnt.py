"""CASIA's `.gnt` files: isolated characters, one writer a file.

A record is `uint32` size (10 + width·height), a two-byte tag code, `uint16` width, `uint16` height,
all little-endian, and width·height bytes of grey by rows, background 255. Files are read as
streams, so that an archive larger than the memory is no matter, and byte by byte accounted for:
what is not part of a sound record is quarantined with its place and length.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hccr_tf.charset import decode_tag, encode_tag
from hccr_tf.data.readers import register_reader
from hccr_tf.data.samples import (
    ARCHIVE_ERRORS,
    Quarantined,
    Record,
    Sample,
    SourceFile,
    is_zip,
    iterate_files,
    list_names,
    split_of_path,
)
from hccr_tf.files import atomic_write

HEADER = struct.Struct("<I2sHH")
MAX_SIDE = 2000
"""Largest plausible width and height in pixels; CASIA's largest pictures have a few hundred."""

_CHUNK = 1 << 20
_PIECE = 1 << 15  # Bytes per read: what a damaged archive fails to unpack is lost by the piece.


@dataclass(frozen=True, slots=True)
class GntRecord:
    """One sound record.

    Attributes:
        offset: Its first byte within the file.
        character: One code point.
        image: Shape (height, width), uint8, read-only, background 255.
    """

    offset: int
    character: str
    image: np.ndarray


class _Window:
    """A stretch of a stream in memory, moving forward."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._data = b""
        self._start = 0  # Offset of _data[0] in the stream.
        self._ended = False
        self.error: Exception | None = None

    def _fill(self, end: int) -> None:
        blocks = [self._data]
        have = self._start + len(self._data)
        # More than is asked for: many small pieces joined one by one would be slow.
        end = max(end, have + 8 * _PIECE)
        while have < end and not self._ended:
            try:
                block = self._stream.read(_PIECE)
            except (*ARCHIVE_ERRORS, OSError) as error:
                # What came before is kept; the caller reports the rest.
                self.error = error
                block = b""
            self._ended = not block
            blocks.append(block)
            have += len(block)
        if len(blocks) > 1:
            self._data = b"".join(blocks)

    def get(self, offset: int, length: int) -> bytes:
        """Returns up to `length` bytes at `offset`; fewer only where the stream ends."""
        if offset + length > self._start + len(self._data):
            self._fill(offset + length)
        begin = offset - self._start
        return self._data[begin : begin + length]

    def drop_before(self, offset: int) -> None:
        # Cut rarely: every cut copies the rest.
        if offset - self._start > _CHUNK:
            self._data = self._data[offset - self._start :]
            self._start = offset

    @property
    def end(self) -> int:
        """The offset up to which the stream was read."""
        return self._start + len(self._data)

    def at_end(self, offset: int) -> bool:
        return not self.get(offset, 1)


def _fault(header: bytes) -> str | None:
    """Says what is wrong with a header, or None."""
    if len(header) < HEADER.size:
        return "truncated record"
    size, tag, width, height = HEADER.unpack(header)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        return "implausible width or height"
    if size != HEADER.size + width * height:
        return "record size disagrees with width and height"
    try:
        decode_tag(tag)
    except ValueError:
        return "undecodable tag code"
    return None


def _plausible(window: _Window, offset: int) -> bool:
    """Whether a sound header, or the end of the file, lies at `offset`."""
    header = window.get(offset, HEADER.size)
    return not header or _fault(header) is None


def _next_record(window: _Window, offset: int) -> int:
    """Returns the first offset from `offset` on at which records go on, or the end of the file.

    A place counts if its header is sound and its record is followed by another sound header or
    by the end of the file; pixels hardly ever look like that by chance.
    """
    while True:
        block = window.get(offset, _CHUNK)
        if len(block) < HEADER.size:
            return offset + len(block)
        num = len(block) - HEADER.size + 1
        data = np.frombuffer(block, np.uint8).astype(np.int64)

        def at(i: int, data: np.ndarray = data, num: int = num) -> np.ndarray:
            return data[i : i + num]

        size = at(0) | at(1) << 8 | at(2) << 16 | at(3) << 24
        width, height = at(6) | at(7) << 8, at(8) | at(9) << 8
        fits = (width > 0) & (height > 0) & (width <= MAX_SIDE) & (height <= MAX_SIDE)
        for i in np.flatnonzero(fits & (size == HEADER.size + width * height)):
            start = offset + int(i)
            end = start + int(size[i])
            whole = len(window.get(start, int(size[i]))) == size[i]
            if whole and _plausible(window, start) and _plausible(window, end):
                return start
        offset += num
        window.drop_before(offset)


def read_gnt(
    file: str | os.PathLike[str] | BinaryIO,
    source: str | None = None,
    num_bytes: int | None = None,
) -> Iterator[GntRecord | Quarantined]:
    """Reads a `.gnt` file, whatever state it is in.

    A record that does not make sense is quarantined, and reading goes on at the next place where
    records make sense again. A file that ends within a record has that record quarantined. The
    bytes of the records and of the quarantined stretches together are the file's bytes.

    Args:
        file: A path, or a stream of bytes open for reading.
        source: The name to report quarantined stretches under; the path's name by default.
        num_bytes: The size that a stream should have; if it ends or fails before, the rest is
            quarantined too.

    Yields:
        `GntRecord` for a sound record, `Quarantined` otherwise, in the order of the file.
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            yield from read_gnt(stream, source or Path(file).name, size)
        return
    source = source or getattr(file, "name", "stream")
    window = _Window(file)
    offset = 0
    while not window.at_end(offset):
        window.drop_before(offset)
        header = window.get(offset, HEADER.size)
        reason = _fault(header)
        if reason is None:
            size, tag, width, height = HEADER.unpack(header)
            body = window.get(offset + HEADER.size, width * height)
            if len(body) == width * height:
                image = np.frombuffer(body, np.uint8).reshape(height, width)
                yield GntRecord(offset, decode_tag(tag), image)
                offset += size
                continue
            reason = "truncated record"
            end = offset + HEADER.size + len(body)
        else:
            end = _end_of_fault(window, offset, header, reason)
        if window.error is not None and window.at_end(end):
            break  # The record is not at fault but the stream.
        yield Quarantined(source, offset, end - offset, reason)
        offset = end
    end = max(num_bytes or 0, window.end)
    if window.error is not None or offset < end:
        yield Quarantined(source, offset, end - offset, "file cannot be read further")


def _end_of_fault(window: _Window, offset: int, header: bytes, reason: str) -> int:
    if reason == "undecodable tag code":
        # Only the tag is wrong: width and height agree with the size.
        end = offset + HEADER.unpack(header)[0]
        if window.get(end - 1, 1) and _plausible(window, end):
            return end
    return _next_record(window, offset + 1)


def write_gnt(
    path: str | os.PathLike[str], samples: Iterable[tuple[str, np.ndarray]]
) -> int:
    """Writes a `.gnt` file atomically.

    Args:
        path: The file to write.
        samples: Pairs of a character and its picture, shape (height, width), uint8, both sides
            between 1 and `MAX_SIDE` pixels.

    Returns:
        The number of records written.

    Raises:
        ValueError: A character has no tag code or a picture has another shape or type; no file is
            written.
    """
    count = 0
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        for character, image in samples:
            image = np.asarray(image)
            if image.dtype != np.uint8 or image.ndim != 2:
                raise ValueError(
                    f"picture {count} has shape {image.shape} and type {image.dtype}; "
                    "(height, width) and uint8 are needed"
                )
            height, width = image.shape
            if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
                raise ValueError(f"picture {count} has {width}×{height} pixels")
            size = HEADER.size + width * height
            stream.write(HEADER.pack(size, encode_tag(character), width, height))
            stream.write(image.tobytes())
            count += 1
    return count


@register_reader
class GntReader:
    """Reads a `.gnt` file, a folder with such files at any depth, or a zip archive of them."""

    name = "CASIA .gnt (a file, a folder, or a zip archive)"
    priority = 10

    def __init__(self) -> None:
        self.done = 0
        self.total = 0

    @classmethod
    def recognise(cls, path: Path) -> bool:
        if path.is_dir() or is_zip(path):
            return any(name.lower().endswith(".gnt") for name in list_names(path))
        return path.suffix.lower() == ".gnt"

    def read(self, path: Path) -> Iterator[Record]:
        """Yields the samples of all files, with the writer from a file's name.

        `done` and `total` count bytes, unpacked.
        """
        self.total = sum(file.num_bytes for file in iterate_files(path))
        for file in iterate_files(path):
            before = self.done
            if file.suffix != ".gnt":
                yield Quarantined(file.source, None, file.num_bytes, "not a .gnt file")
            elif file.num_bytes == 0:
                yield Quarantined(file.source, None, 0, "empty file")
            else:
                yield from self._read_file(file)
            self.done = before + file.num_bytes

    def _read_file(self, file: SourceFile) -> Iterator[Record]:
        parts = file.source.split("/")
        writer = parts[-1] = os.path.splitext(parts[-1])[0]
        split = split_of_path(parts)
        try:
            stream = _Summed(file.open_unchecked())
        except (*ARCHIVE_ERRORS, OSError):
            yield Quarantined(file.source, None, file.num_bytes, "file cannot be opened")
            return
        number, failed = 0, False
        with stream:
            for record in read_gnt(stream, file.source, file.num_bytes):
                if isinstance(record, Quarantined):
                    failed |= record.reason == "file cannot be read further"
                    self.done += record.num_bytes
                    yield record
                    continue
                self.done += HEADER.size + record.image.size
                source = f"{file.source}#{number}"
                yield Sample(record.image, record.character, writer, source, split)
                number += 1
        if file.crc is not None and not failed and stream.crc != file.crc:
            # Nobody can say which record is concerned, and each made sense: they are kept, and
            # the entry, which has no bytes of its own, says that pixels may be wrong.
            yield Quarantined(file.source, None, 0, "archive member fails its checksum")


class _Summed:
    """A stream that sums up what is read from it."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self.crc = 0

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self.crc = zlib.crc32(block, self.crc)
        return block

    def __enter__(self) -> _Summed:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
