"""A stretch of a stream in memory, for formats that are read on after damage."""

import zlib
from typing import Any

import numpy as np

from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS

CHUNK = 1 << 20
_PIECE = 1 << 15
_SIZE = 8 << 20  # above what the reader looks ahead


class Window:
    """A stretch of a stream in memory, moving forward through one buffer.

    Args:
        stream: What to read, with `readinto`.
        archived: Whether it comes from an archive: its CRC-32 is then summed up, and it is read by
            small pieces, as what a damaged archive fails to unpack is lost by the piece.

    Attributes:
        view: The buffer.
        start, end: Offsets in the stream of the buffer's first byte and of the first unread one.
        crc: CRC-32 of what was read.
        error: What ended the stream, None where it ended by itself.
    """

    def __init__(self, stream: Any, archived: bool):
        self._stream = stream
        self._archived = archived
        self._ended = False
        self.view = np.empty(_SIZE, np.uint8).data
        self.start = self.end = self.crc = 0
        self.error: Exception | None = None

    def fill(self, offset: int, length: int = CHUNK) -> None:
        """Reads on until the buffer has `length` bytes from `offset` on, or the stream ends.

        No further than is asked for: what is read is used while the processor's cache has it.
        """
        if offset + length <= self.end or self._ended:
            return
        filled = self.end - offset
        self.view[:filled] = self.view[offset - self.start : self.end - self.start]
        while filled < length and not self._ended:
            piece = min(_PIECE if self._archived else CHUNK, length - filled)
            try:
                count = self._stream.readinto(self.view[filled : filled + piece])
            except (*ARCHIVE_ERRORS, OSError) as error:
                # What came before is kept; the caller reports the rest.
                self.error, count = error, 0
            if self._archived:
                self.crc = zlib.crc32(self.view[filled : filled + count], self.crc)
            filled += count
            self._ended = not count
        self.start, self.end = offset, offset + filled

    def get(self, offset: int, length: int) -> bytes:
        """Returns up to `length` bytes at `offset`, as far as the buffer has them."""
        begin = offset - self.start
        return bytes(self.view[begin : min(begin + length, self.end - self.start)])
