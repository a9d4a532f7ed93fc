"""CASIA's `.gnt` files: isolated characters, one writer a file.

A record is `uint32` size (10 + width·height), a two-byte tag code, `uint16` width, `uint16` height,
all little-endian, and width·height bytes of grey by rows, background 255. Files are read as
streams, so that an archive larger than the memory is no matter, and byte by byte accounted for:
what is not part of a sound record is skipped, and listed with its place and length.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from typing import BinaryIO

import numpy as np

from hccr_tf.data.sources.gbk import decode_tag, encode_tag
from hccr_tf.data.sources.reader import Reader, SourceFile
from hccr_tf.data.sources.records import SampleBlock, Skipped, split_of_path
from hccr_tf.data.sources.window import CHUNK, Window
from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS, BAD_CHECKSUM
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write

HEADER = struct.Struct("<I2sHH")
_NUMBERS = struct.Struct("<IHHH")  # The same with the tag as a number, for `_code_point`.
MAX_SIDE = 2000
"""Largest plausible width and height in pixels; CASIA's largest images have a few hundred."""

# How far to look for a record's end and the header after it, from a stretch to be searched.
_AHEAD = CHUNK + MAX_SIDE * MAX_SIDE + 2 * HEADER.size


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
    except HccrError:
        return "undecodable tag code"
    return None


def _plausible(window: Window, start: int, end: int) -> bool:
    """Whether a whole record may lie there: sound headers, or the file's end, at both ends."""
    headers = (window.get(offset, HEADER.size) for offset in (start, end))
    return end <= window.end and all(not header or _fault(header) is None for header in headers)


def _next_record(window: Window, offset: int) -> int:
    """Returns the first offset from `offset` on at which records go on, or the end of the file.

    A place counts if its header is sound and its record is followed by another sound header or
    by the end of the file; pixels hardly ever look like that by chance.
    """
    while True:
        window.fill(offset, _AHEAD)
        block = window.get(offset, CHUNK)
        count = len(block) - HEADER.size + 1
        if count < 1:
            return window.end
        # A header at every byte.
        size, width, height = (
            np.ndarray(count, kind, block, place, 1).astype(np.int64)
            for place, kind in ((0, "<u4"), (6, "<u2"), (8, "<u2"))
        )
        fits = (width > 0) & (height > 0) & (width <= MAX_SIDE) & (height <= MAX_SIDE)
        for i in np.flatnonzero(fits & (size == HEADER.size + width * height)).tolist():
            if _plausible(window, offset + i, offset + i + int(size[i])):
                return offset + i
        offset += count


def read_blocks(
    stream: BinaryIO,
    source: str,
    num_bytes: int,
    writer: str | None = None,
    split: str | None = None,
    crc: int | None = None,
) -> Iterator[SampleBlock | Skipped]:
    """Reads a `.gnt` stream, whatever state it is in, by blocks of sound records.

    A record that does not make sense is skipped, and reading goes on at the next place where
    records make sense again. A file that ends within a record has that record skipped. The bytes
    of the records and of the skipped stretches together are the file's bytes.

    Args:
        stream: The file's content, with `readinto`.
        source: The file's name, as in `SampleBlock`.
        num_bytes: The size that the stream should have; if it ends or fails before, the rest is
            skipped too.
        writer: As in `SampleBlock`.
        split: As in `SampleBlock`.
        crc: Of a stream from an archive, the CRC-32 that it should have.
    """
    window = Window(stream, archived=crc is not None)
    offset = first = 0
    while True:
        columns = _sound_records(window, offset)
        if columns.size:
            starts, heights, widths, codes = columns
            yield SampleBlock(
                window.view, starts, heights, widths, codes, first, writer, source, split
            )
            first += len(starts)
            offset = window.start + int(starts[-1] + heights[-1] * widths[-1])
            continue
        window.fill(offset, _AHEAD)
        if offset == window.end:
            break
        header = window.get(offset, HEADER.size)
        end = offset + int.from_bytes(header[:4], "little")
        reason = _fault(header)
        if reason is None and end <= window.end:
            continue  # Whole after all: the buffer had ended before it.
        if reason in (None, "truncated record"):
            reason, end = "truncated record", window.end
        # If only the tag is wrong, width and height agree with the size.
        elif reason != "undecodable tag code" or not _plausible(window, end, end):
            end = _next_record(window, offset + 1)
        if window.error is not None and end == window.end:
            break  # The record is not at fault but the stream.
        yield Skipped(source, offset, end - offset, reason)
        offset = end
    end = max(num_bytes, window.end)
    if window.error is not None or offset < end:
        yield Skipped(source, offset, end - offset, "file cannot be read further")
    elif crc is not None and window.crc != crc:
        # Nobody can say which record is concerned, and each made sense: they are kept, and
        # the entry, which has no bytes of its own, says that pixels may be wrong.
        yield Skipped(source, None, 0, BAD_CHECKSUM)


def _sound_records(window: Window, offset: int) -> np.ndarray:
    """Follows the records in the buffer from `offset` on, up to the first that is none or is cut.

    Returns:
        Shape (4, n), int64: `SampleBlock`'s starts, heights, widths and characters.
    """
    unpack, head, view = _NUMBERS.unpack_from, HEADER.size, window.view
    left = window.end - offset
    if left < head or unpack(view, offset - window.start)[0] > left:
        window.fill(offset)
    position, length = offset - window.start, window.end - window.start
    rows: list[int] = []
    while position + head <= length:
        size, tag, width, height = unpack(view, position)
        end = position + size
        if size != head + width * height or end > length or not (code := _code_point(tag)):
            break
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            break
        rows += (position + head, height, width, code)
        position = end
    return np.array(rows, np.int64).reshape(-1, 4).T


@cache
def _code_point(tag: int) -> int:
    """Returns the code point of a tag read as a little-endian number; 0 for no tag."""
    try:
        return ord(decode_tag(tag.to_bytes(2, "little")))
    except HccrError:
        return 0


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
        try:
            stream = file.open()
        except (*ARCHIVE_ERRORS, OSError):
            yield Skipped(file.source, None, file.num_bytes, "file cannot be opened")
            return
        with stream:
            yield from read_blocks(
                stream, file.source, file.num_bytes, writer, split_of_path(parts), file.crc
            )
