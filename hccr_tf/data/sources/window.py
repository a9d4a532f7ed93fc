"""A stretch of a stream in memory, for formats that are read on after damage."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS

CHUNK = 1 << 20


class Window:
    """A stretch of a stream in memory, moving forward through one buffer.

    Args:
        stream: What to read, with `readinto`.
        piece: Bytes to ask it for at a time; of a stream that fails, the last piece is lost.

    Attributes:
        view: The buffer.
        start: Offset of the buffer's first byte in the stream.
        error: What ended the stream, None where it ended by itself.
    """

    _SIZE = 8 << 20  # Above the largest record and above what the reader looks at.
    # Used again for the next file: fresh memory costs more than reading a file of usual size.
    _unused: ClassVar[list[memoryview]] = []

    def __init__(self, stream: Any, piece: int):
        self._stream = stream
        self._piece = piece
        try:
            self.view = self._unused.pop()
        except IndexError:
            self.view = memoryview(np.empty(self._SIZE, np.uint8).data).cast("B")
        self.start = 0
        self._length = 0
        self._ended = False
        self.error: Exception | None = None

    def fill(self, offset: int, length: int = CHUNK) -> int:
        """Moves what lies from `offset` on to the front, reads on, and returns its length.

        No further than is asked for: what is read is used while the processor's cache has it.
        """
        begin = offset - self.start
        rest = self._length - begin
        self.view[:rest] = self.view[begin : self._length]
        self.start, self._length = offset, rest
        while self._length < length and not self._ended:
            piece = min(self._piece, length - self._length)
            try:
                count = self._stream.readinto(self.view[self._length : self._length + piece])
            except (*ARCHIVE_ERRORS, OSError) as error:
                # What came before is kept; the caller reports the rest.
                self.error = error
                count = 0
            self._ended = not count
            self._length += count or 0
        return self._length

    def ensure(self, offset: int, length: int) -> None:
        """Reads on so that looking at up to `length` bytes from `offset` moves nothing."""
        if offset + length > self.end and not self._ended:
            self.fill(offset, max(length, CHUNK))

    def get(self, offset: int, length: int) -> bytes:
        """Returns up to `length` bytes at `offset`; fewer only where the stream ends."""
        self.ensure(offset, length)
        begin = offset - self.start
        return bytes(self.view[begin : min(begin + length, self._length)])

    def release(self) -> None:
        """Gives the buffer back; the window is not used any more."""
        self._unused.append(self.view)
        self.view = memoryview(b"")

    @property
    def end(self) -> int:
        """The offset up to which the stream was read."""
        return self.start + self._length

    def at_end(self, offset: int) -> bool:
        """Whether the stream has no byte at an offset."""
        return not self.get(offset, 1)
