"""Which reader reads which file.

A new kind of file is one file in this folder: a class that fulfils `Reader`, decorated with
`@register_reader`, and its module's name in `_MODULES`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

from hccr_tf.data.sources.records import Record
from hccr_tf.utils.errors import HccrError

_MODULES = (
    "hccr_tf.data.sources.gnt",
    "hccr_tf.data.sources.chinese_mnist",
    "hccr_tf.data.sources.mnist",
    "hccr_tf.data.sources.image_folder",
    "hccr_tf.data.sources.store_source",
)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source, be it on the disk or in an archive.

    Attributes:
        name: The path inside its folder or archive with "/" between parts, as written there.
        source: The same with the names of what it lies in before it, as in `Sample.source`.
        folder: The name of the folder that it lies in; None in the root of an archive.
        num_bytes: Its (unpacked) size.
        open: Opens it as a binary stream; one from an archive raises at its end if its checksum
            is wrong, and withholds what it read last.
        open_unchecked: The same, but an archive's checksum is left to the caller.
        crc: The archive's CRC-32 of the content, None outside of archives.
        path: Where it is on the disk, None in archives.
        refusal: Why it must not be read at all, None for nearly all.
        beside: Given names without folders, returns the first of them that is there in the same
            folder, or None: for kinds that put images and labels into two files.
    """

    name: str
    source: str
    folder: str | None
    num_bytes: int
    open: Callable[[], BinaryIO]
    open_unchecked: Callable[[], BinaryIO]
    crc: int | None = None
    path: Path | None = None
    refusal: str | None = None
    beside: Callable[[Sequence[str]], SourceFile | None] = lambda names: None

    @property
    def suffix(self) -> str:
        """The ending of the name in lower case, with its dot."""
        return os.path.splitext(self.name)[1].lower()


class Reader(Protocol):
    """How one kind of file becomes samples.

    A reader is a class decorated with `register_reader`. `claims` looks at a name only; `read`
    yields everything there is in a file, the unreadable as `Skipped`.

    Args:
        hints: What `hints` returned for the folder or archive.

    Attributes:
        name: The kind of file in a few words, for messages.
        priority: Readers with a higher priority are asked first; a general one lowers its own.
    """

    name: ClassVar[str]
    priority: ClassVar[int] = 0

    def __init__(self, hints: dict[str, Any]): ...

    @classmethod
    def claims(cls, name: str) -> bool: ...

    @classmethod
    def hints(cls, folders: set[str]) -> dict[str, Any]:
        """Returns what reading one file takes to know of all, as plain data.

        Args:
            folders: The names of the folders that the claimed files lie in.
        """
        return {}

    def read(self, file: SourceFile) -> Iterator[Record]: ...


_READERS: dict[str, type[Reader]] = {}


def register_reader(cls: type[Reader]) -> type[Reader]:
    """Class decorator that makes `reader_of` ask a reader.

    Raises:
        HccrError: Another reader has the same name.
    """
    known = _READERS.get(cls.name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise HccrError(f"two readers are named {cls.name!r}")
    _READERS[cls.name] = cls
    list_readers.cache_clear()
    return cls


@cache
def list_readers() -> tuple[type[Reader], ...]:
    """Returns all readers in the order in which they are asked."""
    # Imported late, as the modules import this one for the decorator.
    for module in _MODULES:
        importlib.import_module(module)
    return tuple(sorted(_READERS.values(), key=lambda cls: (-cls.priority, cls.name)))


def reader_of(name: str) -> type[Reader] | None:
    """Returns the reader that claims a file's name, or None."""
    for reader in list_readers():
        if reader.claims(name):
            return reader
    return None
