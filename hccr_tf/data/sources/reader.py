"""Which reader reads which file.

A new kind of file is one module in this folder, with a subclass of `Reader` decorated with
`@register_reader`.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from hccr_tf.data.sources.records import Record
from hccr_tf.utils.errors import HccrError


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source, be it on the disk or in an archive.

    Attributes:
        name: The path inside its folder or archive with "/" between parts, as written there.
        source: The same with the names of what it lies in before it, as in `Sample.source`.
        folder: The name of the folder that it lies in; None in the root of an archive.
        num_bytes: Its (unpacked) size.
        open: Opens it as a binary stream. One from an archive raises at its end if its checksum is
            wrong, and withholds what it read last; `open(checked=False)` leaves that to the caller.
        crc: The archive's CRC-32 of the content, None outside of archives.
        path: Where it is on the disk, None in archives.
    """

    name: str
    source: str
    folder: str | None
    num_bytes: int
    open: Callable[..., BinaryIO]
    crc: int | None = None
    path: Path | None = None

    @property
    def suffix(self) -> str:
        """The ending of the name in lower case, with its dot."""
        return os.path.splitext(self.name)[1].lower()


class Reader:
    """How one kind of file becomes samples.

    Args:
        context: What `context` returned for the folder or archive.

    Attributes:
        kind: The kind of file in a few words, for messages.
        priority: Readers with a higher priority are asked first; a general one lowers its own.
    """

    kind: ClassVar[str]
    priority: ClassVar[int] = 0

    def __init__(self, context: dict[str, Any]) -> None:
        pass

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether this reader reads a file, by its name alone."""
        raise NotImplementedError

    @classmethod
    def context(cls, folders: set[str]) -> dict[str, Any]:
        """Returns what reading one file takes to know of all, as plain data.

        Args:
            folders: The names of the folders that the claimed files lie in.
        """
        return {}

    def read(self, file: SourceFile) -> Iterator[Record]:
        """Yields everything there is in a file, the unreadable as `Skipped`."""
        raise NotImplementedError


_READERS: dict[str, type[Reader]] = {}


def register_reader(cls: type[Reader]) -> type[Reader]:
    """Makes `reader_of` ask a reader; a class decorator.

    Raises:
        HccrError: Another reader reads the same kind.
    """
    known = _READERS.setdefault(cls.kind, cls)
    if known.__qualname__ != cls.__qualname__:
        raise HccrError(f"two readers read {cls.kind!r}")
    list_readers.cache_clear()
    return cls


@cache
def list_readers() -> tuple[type[Reader], ...]:
    """Returns all readers in the order in which they are asked."""
    # Imported late, as the modules import this one for the decorator.
    package = importlib.import_module("hccr_tf.data.sources")
    for module in pkgutil.iter_modules(package.__path__, "hccr_tf.data.sources."):
        importlib.import_module(module.name)
    return tuple(sorted(_READERS.values(), key=lambda cls: (-cls.priority, cls.kind)))


def reader_of(name: str) -> type[Reader] | None:
    """Returns the reader that claims a file's name, or None."""
    return next((reader for reader in list_readers() if reader.claims(name)), None)
