"""What every reader yields, and what readers share: files in a folder or archive, split names."""

from __future__ import annotations

import copy
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Sample:
    """One readable picture of one character.

    Attributes:
        image: Shape (height, width), uint8 grey; background and ink as in the source, for the
            sources at hand background 255 and ink darker.
        character: One code point.
        writer: Who wrote it, or None where the source does not say.
        source: Where it comes from, unique within a store and written as the source writes it, so
            that it can be found again: "Train.zip/Train/ň«¬/12.png", "1001-f.gnt#17".
        split: "train", "validation" or "test" as the source gives it, else None.
    """

    image: np.ndarray
    character: str
    writer: str | None
    source: str
    split: str | None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A stretch of a source that is not used.

    Attributes:
        source: The file, named as in `Sample.source`.
        offset: The first byte concerned within that file, or None for the file as a whole.
        num_bytes: The number of bytes concerned.
        reason: A fixed phrase without numbers or names, so that reasons can be counted.
    """

    source: str
    offset: int | None
    num_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class RepairedName:
    """A class name that was read as something else than it says; see `charset.repair_name`."""

    name: str
    character: str
    code_page: str


Record = Sample | Quarantined | RepairedName


class Reader(Protocol):
    """How one kind of source becomes samples.

    A reader is a class decorated with `readers.register_reader` that can be made without
    arguments. `recognise` looks at names only and is quick; `read` yields everything there is, the
    unreadable as `Quarantined`. While reading, `done` of `total` (in any unit) tells the progress.

    Attributes:
        name: The kind of source in a few words, for messages.
        priority: Readers with a higher priority are asked first; a general one lowers its own.
    """

    name: ClassVar[str]
    priority: ClassVar[int] = 0
    done: int = 0
    total: int = 0

    @classmethod
    def recognise(cls, path: Path) -> bool: ...

    def read(self, path: Path) -> Iterator[Record]: ...


ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)
"""What reading a damaged, encrypted or unusually packed zip member raises."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: The path inside the source with "/" between parts, as the source spells it.
        source: The same with the source's own name before it, as in `Sample.source`.
        num_bytes: Its (unpacked) size.
        open: Opens it as a binary stream; one from an archive raises at its end if its checksum
            is wrong, and withholds what it read last.
        open_unchecked: The same, but an archive's checksum is left to the caller.
        crc: The archive's CRC-32 of the content, None outside of archives.
    """

    name: str
    source: str
    num_bytes: int
    open: Callable[[], BinaryIO]
    open_unchecked: Callable[[], BinaryIO]
    crc: int | None = None

    @property
    def suffix(self) -> str:
        """The ending of the name in lower case, with its dot."""
        return os.path.splitext(self.name)[1].lower()


def is_zip(path: Path) -> bool:
    """Whether a path is a file that names itself a zip archive."""
    return path.is_file() and path.suffix.lower() == ".zip"


def list_names(path: Path) -> Iterator[str]:
    """Yields the names of all files of a folder or zip archive; see `iterate_files`."""
    if is_zip(path):
        with _open_zip(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield _member_name(info)
    else:
        for file in _walk(path):
            yield file.relative_to(path).as_posix() if file != path else file.name


def iterate_files(path: Path) -> Iterator[SourceFile]:
    """Yields all files of a folder (by name), of a zip archive (in its order), or the file itself.

    Nothing is unpacked to the disk, so a member's name can never lead outside of it.

    Raises:
        ValueError: A zip archive cannot be opened.
    """
    if is_zip(path):
        with _open_zip(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    # Without the CRC attribute, zipfile has nothing to compare with.
                    unchecked = copy.copy(info)
                    del unchecked.CRC
                    name = _member_name(info)
                    yield SourceFile(
                        name,
                        f"{path.name}/{name}",
                        info.file_size,
                        partial(archive.open, info),
                        partial(archive.open, unchecked),
                        info.CRC,
                    )
    else:
        for file in _walk(path):
            name = file.relative_to(path).as_posix() if file != path else file.name
            source = f"{path.name}/{name}" if file != path else name
            opener = partial(file.open, "rb")
            yield SourceFile(name, source, file.stat().st_size, opener, opener)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (*ARCHIVE_ERRORS, OSError) as error:
        raise ValueError(
            f"{path} is no readable zip archive ({error}); compare its size with the download "
            "page's and download it again"
        ) from error


def _member_name(info: zipfile.ZipInfo) -> str:
    # Some Windows programs write "\" between the parts; beside "/" it is a class's own name.
    name = info.filename
    return name if "/" in name else name.replace("\\", "/")


def _walk(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    # Linked folders are followed, as leaving them out would go unnoticed; each only once, as
    # links can run in circles.
    seen: set[str] = set()
    for root, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for file in sorted(files):
            yield Path(root, file)


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SPLIT_WORDS = {
    "train": re.compile(r"train\w*|trn", re.IGNORECASE),
    "test": re.compile(r"test(s|ing|set|data|part)?|tst|competition", re.IGNORECASE),
    "validation": re.compile(r"val|valid\w*", re.IGNORECASE),
}


def split_of_path(parts: Sequence[str]) -> str | None:
    """Returns the split that folder and archive names speak of, the innermost deciding.

    Args:
        parts: Names from the outermost to the innermost, such as ["Gnt1.0TrainPart1.zip"].

    Returns:
        "train", "validation", "test" or None. A name speaks of a split if one of its words is
        train or trn, test or tst or competition (the ICDAR-2013 test set), or val; words are told
        apart by case, digits and punctuation, so "latest" does not speak of one.
    """
    for part in reversed(parts):
        for word in _WORDS.findall(part):
            for split, pattern in _SPLIT_WORDS.items():
                if pattern.fullmatch(word):
                    return split
    return None
