"""CASIA's `.gnt` files: isolated characters, one writer a file.

A record is `uint32` size (10 + width·height), a two-byte tag code, `uint16` width, `uint16` height,
all little-endian, and width·height bytes of grey by rows, background 255. Files are read as
streams, so that an archive larger than the memory is no matter, and byte by byte accounted for:
what is not part of a sound record is skipped, and listed with its place and length.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from hccr_tf.data.sources.gbk import decode_tag, encode_tag
from hccr_tf.data.sources.reader import Reader, SourceFile, register_reader
from hccr_tf.data.sources.records import SampleBlock, Skipped, split_of_path
from hccr_tf.data.sources.window import CHUNK, Window
from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write

HEADER = struct.Struct("<I2sHH")
_FAST_HEADER = struct.Struct("<IHHH")  # The tag as a number, for `_characters_of_tags`.
UNREADABLE = "file cannot be read further"
MAX_SIDE = 2000
"""Largest plausible width and height in pixels; CASIA's largest images have a few hundred."""

_LARGEST = HEADER.size + MAX_SIDE * MAX_SIDE
_PIECE = 1 << 15  # Bytes per read: what a damaged archive fails to unpack is lost by the piece.
_LARGE_PIECE = 1 << 20  # A plain file fails by the disk's own blocks.


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


def _plausible(window: Window, offset: int) -> bool:
    """Whether a sound header, or the end of the file, lies at `offset`."""
    header = window.get(offset, HEADER.size)
    return not header or _fault(header) is None


def _next_record(window: Window, offset: int) -> int:
    """Returns the first offset from `offset` on at which records go on, or the end of the file.

    A place counts if its header is sound and its record is followed by another sound header or
    by the end of the file; pixels hardly ever look like that by chance.
    """
    while True:
        window.ensure(offset, CHUNK + _LARGEST + HEADER.size)
        block = window.get(offset, CHUNK)
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


def read_gnt(
    file: str | os.PathLike[str] | BinaryIO, source: str | None = None, num_bytes: int | None = None
) -> Iterator[GntRecord | Skipped]:
    """Reads a `.gnt` file, whatever state it is in.

    A record that does not make sense is skipped, and reading goes on at the next place where
    records make sense again. A file that ends within a record has that record skipped. The bytes
    of the records and of the skipped stretches together are the file's bytes.

    Args:
        file: A path, or a stream of bytes open for reading (with `readinto`).
        source: The name to report skipped stretches under; the path's name by default.
        num_bytes: The size that a stream should have; if it ends or fails before, the rest is
            skipped too.

    Yields:
        `GntRecord` for a sound record, `Skipped` otherwise, in the order of the file.
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            yield from read_gnt(stream, source or Path(file).name, size)
        return
    offset = 0
    name = source or str(getattr(file, "name", "stream"))
    for entry in read_blocks(file, name, num_bytes):
        if isinstance(entry, Skipped):
            yield entry
            offset += entry.num_bytes
            continue
        for sample in entry.samples():
            sample.image.flags.writeable = False
            yield GntRecord(offset, sample.character, sample.image)
            offset += HEADER.size + sample.image.size


def read_blocks(
    stream: BinaryIO | _Summed,
    source: str,
    num_bytes: int | None = None,
    writer: str | None = None,
    split: str | None = None,
    piece: int = _PIECE,
) -> Iterator[SampleBlock | Skipped]:
    """Reads a `.gnt` stream by blocks of sound records: `read_gnt` for millions of them.

    Args:
        stream: The file's content.
        source: As in `read_gnt`.
        num_bytes: As in `read_gnt`.
        writer: As in `Sample`.
        split: As in `Sample`.
        piece: Bytes to ask the stream for at a time; of a stream that fails, what it had of the
            last piece is lost.
    """
    window = Window(stream, piece)
    try:
        offset = first = 0
        while not window.at_end(offset):
            columns, offset = _sound_records(window, offset)
            if columns is not None:
                starts, heights, widths, characters = columns
                yield SampleBlock(
                    window.view, starts, heights, widths, characters, first, writer, source, split
                )
                first += len(starts)
                continue
            window.ensure(offset, _LARGEST + HEADER.size)
            header = window.get(offset, HEADER.size)
            reason = _fault(header)
            if reason is None:
                size, _, width, height = HEADER.unpack(header)
                body = len(window.get(offset + HEADER.size, width * height))
                if body == width * height:
                    continue  # Whole after all: the buffer had ended before it.
                reason = "truncated record"
                end = offset + HEADER.size + body
            else:
                end = _end_of_fault(window, offset, header, reason)
            if window.error is not None and window.at_end(end):
                break  # The record is not at fault but the stream.
            yield Skipped(source, offset, end - offset, reason)
            offset = end
        end = max(num_bytes or 0, window.end)
        if window.error is not None or offset < end:
            yield Skipped(source, offset, end - offset, UNREADABLE)
    finally:
        window.release()


def _sound_records(window: Window, offset: int) -> tuple[list[np.ndarray] | None, int]:
    """Follows the records in the buffer from `offset` on, up to the first that is none or is cut.

    Returns:
        `SampleBlock`'s starts, heights, widths and characters, None where the first record is no
        sound one; and the offset after the last.
    """
    unpack, head = _FAST_HEADER.unpack_from, HEADER.size
    view, position = window.view, offset - window.start
    length = window.end - window.start
    if length - position < head or position + unpack(view, position)[0] > length:
        position, length = 0, window.fill(offset)
    positions: list[int] = []
    add = positions.append
    while position + head <= length:
        size, _, width, height = unpack(view, position)
        area = width * height
        end = position + size
        if size != head + area or end > length or not area or width > MAX_SIDE or height > MAX_SIDE:
            break
        add(position)
        position = end
    if not positions:
        return None, offset
    begins = np.array(positions, np.int64)
    # Tag, width and height of all headers at once.
    fields = np.frombuffer(view, np.uint8)[begins[:, None] + np.arange(4, head)].view("<u2")
    characters = _characters_of_tags(fields[:, 0])
    wrong = np.flatnonzero(characters == 0)
    if len(wrong):
        count = int(wrong[0])
        if not count:
            return None, offset
        position = positions[count]
        begins, fields, characters = begins[:count], fields[:count], characters[:count]
    widths, heights = fields[:, 1].astype(np.int64), fields[:, 2].astype(np.int64)
    return [begins + head, heights, widths, characters], window.start + position


_UNKNOWN = 0xFFFFFFFF
_tag_table = np.full(1 << 16, _UNKNOWN, np.uint32)  # Filled as tags are met.


def _characters_of_tags(numbers: np.ndarray) -> np.ndarray:
    """Shape (n,), uint32: the code points of tags read as little-endian numbers; 0 for no tag."""
    characters = _tag_table[numbers]
    if (characters == _UNKNOWN).any():
        for tag in np.unique(numbers[characters == _UNKNOWN]).tolist():
            try:
                _tag_table[tag] = ord(decode_tag(tag.to_bytes(2, "little")))
            except ValueError:
                _tag_table[tag] = 0
        characters = _tag_table[numbers]
    return characters


def _end_of_fault(window: Window, offset: int, header: bytes, reason: str) -> int:
    if reason == "undecodable tag code":
        # Only the tag is wrong: width and height agree with the size.
        end = offset + HEADER.unpack(header)[0]
        if window.get(end - 1, 1) and _plausible(window, end):
            return end
    return _next_record(window, offset + 1)


def write_gnt(path: str | os.PathLike[str], samples: Iterable[tuple[str, np.ndarray]]) -> int:
    """Writes a `.gnt` file atomically.

    Args:
        path: The file to write.
        samples: Pairs of a character and its image, shape (height, width), uint8, both sides
            between 1 and `MAX_SIDE` pixels.

    Returns:
        The number of records written.

    Raises:
        HccrError: A character has no tag code or an image has another shape or type; no file is
            written.
    """
    count = 0
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        for character, image in samples:
            image = np.asarray(image)
            if image.dtype != np.uint8 or image.ndim != 2:
                raise HccrError(
                    f"image {count} has shape {image.shape} and type {image.dtype}; "
                    "(height, width) and uint8 are needed"
                )
            height, width = image.shape
            if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
                raise HccrError(f"image {count} has {width}×{height} pixels")
            size = HEADER.size + width * height
            stream.write(HEADER.pack(size, encode_tag(character), width, height))
            stream.write(image.tobytes())
            count += 1
    return count


@register_reader
class GntReader(Reader):
    """Reads `.gnt` files; the writer is the file's name without its ending."""

    kind = "CASIA .gnt files"
    priority = 10

    @classmethod
    def claims(cls, name: str) -> bool:
        """Claims `.gnt` files."""
        return name[-4:].lower() == ".gnt"

    def read(self, file: SourceFile) -> Iterator[SampleBlock | Skipped]:
        """Yields the samples of a file by blocks, and what is skipped."""
        if file.num_bytes == 0:
            yield Skipped(file.source, None, 0, "empty file")
            return
        parts = file.source.split("/")
        writer = parts[-1] = os.path.splitext(parts[-1])[0]
        split = split_of_path(parts)
        try:
            stream = _Summed(file.open(checked=False), file.crc is not None)
        except (*ARCHIVE_ERRORS, OSError):
            yield Skipped(file.source, None, file.num_bytes, "file cannot be opened")
            return
        failed = False
        with stream:
            piece = _PIECE if file.path is None else _LARGE_PIECE
            for entry in read_blocks(stream, file.source, file.num_bytes, writer, split, piece):
                failed |= isinstance(entry, Skipped) and entry.reason == UNREADABLE
                yield entry
        if file.crc is not None and not failed and stream.crc != file.crc:
            # Nobody can say which record is concerned, and each made sense: they are kept, and
            # the entry, which has no bytes of its own, says that pixels may be wrong.
            yield Skipped(file.source, None, 0, "archive member fails its checksum")


class _Summed:
    """A stream that sums up what is read from it, if asked to."""

    def __init__(self, stream: BinaryIO, wanted: bool):
        self._stream = stream
        self._wanted = wanted
        self.crc = 0

    def readinto(self, buffer: memoryview) -> int:
        count = cast(Any, self._stream).readinto(buffer)
        if self._wanted:
            self.crc = zlib.crc32(buffer[:count], self.crc)
        return count

    def __enter__(self) -> _Summed:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
