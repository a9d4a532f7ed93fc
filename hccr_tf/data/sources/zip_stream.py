"""Reads zip archives of any size as streams: one member after another, nothing unpacked to disk.

Python's own `zipfile.ZipFile` keeps an object for every member, which for the 3.7 million files of
the repack takes gigabytes in every process. Here the archive's directory is itself read as a
stream, from any entry on; decompression and checksums are `zipfile`'s.
"""

from __future__ import annotations

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
        encrypted, link: What it is, if not a plain file.
    """

    position: int
    name: str
    num_bytes: int
    packed: int
    crc: int
    method: int
    header: int
    encrypted: bool
    link: bool

    @property
    def refusal(self) -> str | None:
        """Why it isn't unpacked, or None."""
        if self.link:
            return "link in an archive"
        if self.encrypted:
            return "encrypted archive member"
        if self.num_bytes > _BOMB_BYTES and self.num_bytes > _BOMB_RATIO * self.packed:
            return "unpacks to more than 250 times its size"
        return None


class ZipDirectory:
    """The members of a zip archive.

    Args:
        path: The archive.

    Attributes:
        start: Position of the first entry; `members` begins there by default.
        num_members: How many there are, folders included.

    Raises:
        BrokenArchive: The file is no zip archive, or a broken one.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        try:
            with open(self.path, "rb") as stream:
                self.num_members, size, self.start, self._shift = _find_directory(stream)
                self._end = self.start + size
                self.num_bytes = stream.seek(0, os.SEEK_END)
        except (OSError, struct.error, zipfile.BadZipFile) as error:
            raise BrokenArchive(
                f"{path} is no readable zip archive ({error}); compare its size with the download "
                "page's and download it again"
            ) from error

    def members(self, start: int | None = None, count: int | None = None) -> Iterator[Member]:
        """Yields the files in the archive's order; folders are passed over.

        Args:
            start: Position of the entry to begin with; the first by default.
            count: How many files to yield; all by default.

        Raises:
            BrokenArchive: The directory is damaged, or its members claim more bytes than the
                archive has, so that some lie over each other: an archive made to overwhelm.
        """
        position = self.start if start is None else start
        yielded = packed = 0
        with open(self.path, "rb") as stream:
            stream.seek(position)
            block, offset = b"", 0
            while position < self._end and yielded != count:
                if len(block) - offset < _ENTRY.size or offset + _length(block, offset) > len(
                    block
                ):
                    block = block[offset:] + stream.read(_BLOCK)
                    offset = 0
                    if len(block) < _ENTRY.size or _length(block, 0) > len(block):
                        raise BrokenArchive(
                            f"{self.path} has a damaged directory; download it again"
                        )
                length = _length(block, offset)
                member = self._member(block, offset, position)
                offset += length
                position += length
                if not member.name.endswith("/"):
                    packed += member.packed
                    if packed > self.num_bytes:
                        raise BrokenArchive(
                            f"{self.path} has members that lie over each other: it is damaged or "
                            "made to fill the disk, and is not read"
                        )
                    yielded += 1
                    yield member

    def open(self, member: Member, checked: bool = True) -> BinaryIO:
        """Opens a member as a stream of its content.

        Args:
            member: One of `members`.
            checked: Whether a wrong checksum raises at the end and withholds what was read last;
                otherwise the checksum is left to the caller.

        Raises:
            One of `ARCHIVE_ERRORS` or OSError, here or while reading.
        """
        if member.encrypted:
            raise RuntimeError(f"{member.name} is encrypted")
        stream = open(self.path, "rb")  # noqa: SIM115  The stream that is returned closes it.
        try:
            stream.seek(member.header)
            head = stream.read(_LOCAL.size)
            if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
                raise zipfile.BadZipFile(f"no header of {member.name} where it should be")
            *_, name_length, extra_length = _LOCAL.unpack(head)
            stream.seek(name_length + extra_length, os.SEEK_CUR)
            info = zipfile.ZipInfo("member")
            info.compress_type = member.method
            info.compress_size = member.packed
            info.file_size = member.num_bytes
            info.CRC = member.crc
            if not checked:
                # Without the attribute, zipfile has nothing to compare with.
                del info.CRC
            return cast(BinaryIO, zipfile.ZipExtFile(stream, "r", info, None, True))
        except BaseException:
            stream.close()
            raise

    def _member(self, block: bytes, offset: int, position: int) -> Member:
        fields = _ENTRY.unpack_from(block, offset)
        if fields[0] != b"PK\1\2":
            raise BrokenArchive(f"{self.path} has a damaged directory; download it again")
        flags, method = fields[5], fields[6]
        crc, packed, num_bytes, name_length, extra_length = fields[9:14]
        mode, header = fields[17] >> 16, fields[18]
        begin = offset + _ENTRY.size
        raw = block[begin : begin + name_length]
        extra = block[begin + name_length : begin + name_length + extra_length]
        try:
            name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
        except UnicodeDecodeError:
            name = raw.decode("cp437")
        num_bytes, packed, header = _zip64(extra, num_bytes, packed, header)
        # zipfile cuts names at a zero byte too.
        name = name.split("\0", 1)[0]
        # Some Windows programs write "\" between the parts; beside "/" it is a class's own name.
        if "/" not in name:
            name = name.replace("\\", "/")
        return Member(
            position,
            name,
            num_bytes,
            packed,
            crc,
            method,
            header + self._shift,
            bool(flags & _ENCRYPTED),
            stat.S_ISLNK(mode),
        )


def _length(block: bytes, offset: int) -> int:
    return _ENTRY.size + sum(struct.unpack_from("<3H", block, offset + 28))


def _zip64(extra: bytes, num_bytes: int, packed: int, header: int) -> tuple[int, int, int]:
    """Reads the sizes that do not fit into 32 bits from the entry's extra fields."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            values = list(struct.unpack_from(f"<{length // 8}Q", extra, position + 4))
            sizes = []
            for value in (num_bytes, packed, header):
                if value == 0xFFFFFFFF:
                    if not values:
                        raise BrokenArchive("a zip64 entry lacks a size")
                    value = values.pop(0)
                sizes.append(value)
            return sizes[0], sizes[1], sizes[2]
        position += 4 + length
    return num_bytes, packed, header


def _find_directory(stream: BinaryIO) -> tuple[int, int, int, int]:
    """Returns the number of entries, the directory's size and place, and what lies before it.

    Archives may follow other data (self-extracting ones do); offsets then count from their start.
    """
    length = stream.seek(0, io.SEEK_END)
    tail = min(length, _END.size + 0xFFFF)
    stream.seek(length - tail)
    data = stream.read(tail)
    end_record = data.rfind(b"PK\5\6")
    if end_record < 0 or end_record + _END.size > len(data):
        raise zipfile.BadZipFile("it has no directory at its end")
    _, _, _, _, count, size, offset, _ = _END.unpack_from(data, end_record)
    end = length - tail + end_record
    if 0xFFFFFFFF in (size, offset) or count == 0xFFFF:
        stream.seek(max(0, end - _LOCATOR.size))
        locator = stream.read(_LOCATOR.size)
        if locator.startswith(b"PK\6\7"):
            # Its own place is as long before the locator as it is large; the place that the
            # locator names is wrong where data precede the archive.
            end -= _LOCATOR.size + _END64.size
            stream.seek(max(0, end))
            fields = _END64.unpack(stream.read(_END64.size))
            if fields[0] != b"PK\6\6":
                raise zipfile.BadZipFile("its zip64 directory cannot be found")
            count, size, offset = fields[7:10]
    start = end - size
    if start < 0 or start < offset:
        raise zipfile.BadZipFile("its directory is cut off")
    return count, size, start, start - offset
