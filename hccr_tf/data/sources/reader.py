"""Which reader reads which file.

A new kind of file is one module in this folder, with a subclass of `Reader`.
"""

import importlib
import pkgutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from hccr_tf.data.sources.records import Record
from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS, BAD_CHECKSUM
from hccr_tf.utils.errors import HccrError


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source, be it on the disk or in an archive.

    Attributes:
        name: The path inside its folder or archive with "/" between parts, as written there.
        source: The same with the names of what it lies in before it, as in `Sample.source`.
        class_name: What names its class: a part of its path, or the character that a file of
            labels gives; or None.
        num_bytes: Its (unpacked) size.
        open: Opens it as a binary stream, whose checksum is left to the caller.
        crc: The archive's CRC-32 of the content, None outside of archives.
        path: Where it is on the disk, None in archives.
    """

    name: str
    source: str
    class_name: str | None
    num_bytes: int
    open: Callable[[], Any]
    crc: int | None = None
    path: Path | None = None

    def read(self) -> bytes:
        """Returns the content.

        Raises:
            HccrError: It cannot be read; the message is a fixed phrase, fit to be counted.
        """
        try:
            with self.open() as stream:
                data = stream.read()
        except (*ARCHIVE_ERRORS, OSError) as error:
            raise HccrError("file cannot be read") from error
        if self.crc not in (None, zlib.crc32(data)):
            raise HccrError(BAD_CHECKSUM)
        return data


class Reader:
    """How one kind of file becomes samples.

    Args:
        options: What was asked for and found of the folder or archive: "photographs", whether
            images are cleaned; "naming", how paths name classes; "classes", characters by number.

    Attributes:
        kind: The kind of file in a few words, for messages.
        priority: Readers with a higher priority are asked first; a general one lowers its own.
        by_path: Whether a file's path names its class.
    """

    kind: ClassVar[str]
    priority: ClassVar[int] = 0
    by_path: ClassVar[bool] = False

    def __init__(self, options: dict[str, Any]) -> None:
        pass

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether this reader reads a file, by its name alone."""
        raise NotImplementedError

    def read(self, file: SourceFile) -> Iterator[Record]:
        """Yields everything there is in a file, the unreadable as `Skipped`."""
        raise NotImplementedError


@cache
def list_readers() -> tuple[type[Reader], ...]:
    """Returns all readers in the order in which they are asked."""
    # Imported late, as the modules import this one.
    package = importlib.import_module("hccr_tf.data.sources")
    for module in pkgutil.iter_modules(package.__path__, "hccr_tf.data.sources."):
        importlib.import_module(module.name)
    return tuple(sorted(Reader.__subclasses__(), key=lambda cls: (-cls.priority, cls.kind)))


def reader_of(name: str) -> type[Reader] | None:
    """Returns the reader that claims a file's name, or None."""
    return next((reader for reader in list_readers() if reader.claims(name)), None)
