"""Reads zip archives of any size as streams: one member after another, nothing unpacked to disk.

Python's own `zipfile.ZipFile` keeps an object for every member, which for the 3.7 million files of
the repack takes gigabytes in every process. Here the archive's directory is itself read as a
stream, from any entry on; decompression and checksums are `zipfile`'s.
"""

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from hccr_tf.utils.errors import HccrError

ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)
"""What reading a damaged, encrypted or unusually packed zip member raises."""
BAD_CHECKSUM = "archive member fails its checksum"


class BrokenArchive(HccrError):
    """An archive whose directory can't be read."""


_ENTRY = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s2B4HL2L2H")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_BLOCK = 1 << 20
_BOMB_RATIO, _BOMB_BYTES = 250, 256 << 20
_UTF8, _ENCRYPTED = 0x800, 0x1


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a zip archive.

    Attributes:
        position: Where its entry begins in the archive's directory, a byte of the archive.
        name: As `zipfile` gives it: UTF-8 where it is marked so, else cp437.
        num_bytes: Its size, unpacked, as the archive states it; more is never read.
        packed: Its size in the archive.
        crc: CRC-32 of its content.
        method: How it is compressed.
        header: Where its own header lies.
        refusal: Why it isn't unpacked, or None.
    """

    position: int
    name: str
    num_bytes: int
    packed: int
    crc: int
    method: int
    header: int
    refusal: str | None


class ZipDirectory:
    """The members of a zip archive.

    Raises:
        BrokenArchive: The file is no zip archive, or a broken one.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        try:
            with open(self.path, "rb") as stream:
                self._start, self._end, self._shift = _find_directory(stream)
                self._num_bytes = stream.seek(0, os.SEEK_END)
        except (OSError, struct.error, zipfile.BadZipFile) as error:
            raise BrokenArchive(
                f"{path} is no readable zip archive ({error}); compare its size with the download "
                "page's and download it again"
            ) from error

    def members(self, first: int | None = None, last: int | None = None) -> Iterator[Member]:
        """Yields the files in the archive's order; folders are passed over.

        Args:
            first: Position of the first one; by default that of the archive.
            last: Position of the last one.

        Raises:
            BrokenArchive: The directory is damaged, or its members claim more bytes than the
                archive has, so that some lie over each other: an archive made to overwhelm.
        """
        end = self._end if last is None else last + 1
        block, offset, packed = b"", 0, 0
        with open(self.path, "rb") as stream:
            position = stream.seek(self._start if first is None else first)
            while position < end:
                length = _length(block, offset)
                if offset + length > len(block):
                    block, offset = block[offset:] + stream.read(_BLOCK), 0
                    length = _length(block, 0)
                entry = block[offset : offset + length]
                if len(entry) < length or not entry.startswith(b"PK\1\2"):
                    raise BrokenArchive(f"{self.path} has a damaged directory; download it again")
                member = self._member(entry, position)
                offset += length
                position += length
                if not member.name.endswith("/"):
                    packed += member.packed
                    if packed > self._num_bytes:
                        raise BrokenArchive(
                            f"{self.path} has members that lie over each other: it is damaged or "
                            "made to fill the disk, and is not read"
                        )
                    yield member

    def open(self, member: Member) -> BinaryIO:
        """Opens one of `members` as a stream of its content, whose checksum the caller compares.

        Raises:
            One of `ARCHIVE_ERRORS` or OSError, here or while reading.
        """
        stream = open(self.path, "rb")  # noqa: SIM115  The stream that is returned closes it.
        try:
            stream.seek(member.header)
            head = stream.read(_LOCAL.size)
            if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
                raise zipfile.BadZipFile(f"no header of {member.name} where it should be")
            *_, name_length, extra_length = _LOCAL.unpack(head)
            stream.seek(name_length + extra_length, os.SEEK_CUR)
            # Without the checksum, as zipfile withholds what it read last where that is wrong.
            info = zipfile.ZipInfo("member")
            info.compress_type = member.method
            info.compress_size = member.packed
            info.file_size = member.num_bytes
            return cast(BinaryIO, zipfile.ZipExtFile(stream, "r", info, None, True))
        except BaseException:
            stream.close()
            raise

    def _member(self, entry: bytes, position: int) -> Member:
        fields = _ENTRY.unpack_from(entry)
        flags, method = fields[5], fields[6]
        crc, packed, num_bytes, name_length, extra_length = fields[9:14]
        mode, header = fields[17] >> 16, fields[18]
        raw = entry[_ENTRY.size : _ENTRY.size + name_length]
        extra = entry[_ENTRY.size + name_length :][:extra_length]
        try:
            name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
        except UnicodeDecodeError:
            name = raw.decode("cp437")
        try:
            num_bytes, packed, header = _zip64(extra, [num_bytes, packed, header])
        except (IndexError, struct.error):
            raise BrokenArchive(f"{self.path} has a zip64 entry that lacks a size") from None
        # zipfile cuts names at a zero byte too.
        name = name.split("\0", 1)[0]
        # Some Windows programs write "\" between the parts; beside "/" it is a class's own name.
        if "/" not in name:
            name = name.replace("\\", "/")
        refusal = None
        if stat.S_ISLNK(mode):
            refusal = "link in an archive"
        elif flags & _ENCRYPTED:
            refusal = "encrypted archive member"
        elif num_bytes > max(_BOMB_BYTES, _BOMB_RATIO * packed):
            refusal = "unpacks to more than 250 times its size"
        header += self._shift
        return Member(position, name, num_bytes, packed, crc, method, header, refusal)


def _length(block: bytes, offset: int) -> int:
    """Returns the length of a directory entry, or of its fixed part where the block ends."""
    return _ENTRY.size + sum(struct.unpack("<3H", block[offset + 28 : offset + 34].ljust(6, b"\0")))


def _zip64(extra: bytes, sizes: list[int]) -> list[int]:
    """Takes sizes that do not fit into 32 bits from the entry's extra fields."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            values = list(struct.unpack_from(f"<{length // 8}Q", extra, 4))
            return [values.pop(0) if size == 0xFFFFFFFF else size for size in sizes]
        extra = extra[4 + length :]
    return sizes


def _find_directory(stream: BinaryIO) -> tuple[int, int, int]:
    """Returns where the directory begins and ends, and how much lies before the archive.

    Archives may follow other data (self-extracting ones do); offsets then count from their start.
    """
    length = stream.seek(0, io.SEEK_END)
    tail = min(length, _END.size + 0xFFFF)
    stream.seek(length - tail)
    data = stream.read(tail)
    end_record = data.rfind(b"PK\5\6")
    if end_record < 0 or end_record + _END.size > len(data):
        raise zipfile.BadZipFile("it has no directory at its end")
    *_, size, offset, _ = _END.unpack_from(data, end_record)
    end = length - tail + end_record
    stream.seek(max(0, end - _LOCATOR.size))
    if stream.read(_LOCATOR.size).startswith(b"PK\6\7"):
        # The zip64 record lies just before its locator; the place that the locator names is
        # wrong where data precede the archive.
        end -= _LOCATOR.size + _END64.size
        stream.seek(max(0, end))
        fields = _END64.unpack(stream.read(_END64.size))
        if fields[0] != b"PK\6\6":
            raise zipfile.BadZipFile("its zip64 directory cannot be found")
        size, offset = fields[8:10]
    start = end - size
    if start < 0 or start < offset:
        raise zipfile.BadZipFile("its directory is cut off")
    return start, end, start - offset
