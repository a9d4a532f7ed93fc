"""What a source holds: folders and archives within each other, cut into chunks that are read.

A source is looked through once, by names and sizes. The chunks do not depend on the number of
processes that read them, so that neither does the store.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hccr_tf.data.sources.catalogue import OTHER_ARCHIVES, OTHER_KINDS, KnownFile, known_file
from hccr_tf.data.sources.reader import Reader, SourceFile, list_readers, reader_of
from hccr_tf.data.sources.records import Record, Skipped
from hccr_tf.data.sources.store_source import StoreReader, is_store
from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS, BrokenArchive, Member, ZipDirectory
from hccr_tf.utils.errors import HccrError

CHUNK_BYTES = 64 << 20
CHUNK_FILES = 2048
"""A chunk ends after so many bytes or files: the layout of the store follows from them."""

_MAX_DEPTH = 3


@dataclass
class Container:
    """A folder, archive or single file, as plain data.

    Attributes:
        kind: "folder", "zip" or "file".
        path: Where it is.
        label: What goes before the names of its files in sample ids.
        name: Its own name, without the names of what it lies in.
        contexts: By a reader's kind: what `Reader.context` returned.
    """

    kind: str
    path: Path
    label: str
    name: str
    contexts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def folder_of(self, name: str) -> str | None:
        """Returns the name of the folder that a file lies in, or None."""
        parts = name.split("/")
        if len(parts) > 1:
            return parts[-2]
        return self.name if self.kind == "folder" else None


@dataclass
class Chunk:
    """A stretch of a container's files, as plain data; `records` reads it.

    Attributes:
        container: What the files lie in.
        num_bytes: Sum of their sizes.
        start, count: Of an archive: position of the first directory entry, number of files.
        names: Of a folder: paths inside of it, in one text with zeros between, as millions of
            texts would take gigabytes.
    """

    container: Container
    num_bytes: int = 0
    start: int | None = None
    count: int = 0
    names: str = ""

    def files(self) -> Iterator[SourceFile | Skipped]:
        """Yields the files in order, or why one is not read."""
        container = self.container
        if container.kind != "zip":
            for name in self.names.split("\0"):
                path = container.path if container.kind == "file" else container.path / name
                source = (
                    container.label if container.kind == "file" else f"{container.label}/{name}"
                )
                opener = partial(_open_plain, path)
                folder = container.folder_of(name)
                yield SourceFile(name, source, folder, path.stat().st_size, opener, path=path)
            return
        directory = ZipDirectory(container.path)
        for member in directory.members(self.start, self.count):
            source = f"{container.label}/{member.name}"
            if refusal := member.refusal:
                yield Skipped(source, None, member.num_bytes, refusal)
                continue
            opener = partial(directory.open, member)
            folder = container.folder_of(member.name)
            yield SourceFile(member.name, source, folder, member.num_bytes, opener, member.crc)

    def records(self) -> Iterator[Record]:
        """Yields the records of the files; every file yields at least one, or is skipped."""
        readers: dict[type[Reader], Reader] = {}
        for file in self.files():
            if isinstance(file, Skipped):
                yield file
                continue
            reader = reader_of(file.name)
            if reader is None:
                yield Skipped(file.source, None, file.num_bytes, _why_unread(file.suffix))
                continue
            if reader not in readers:
                readers[reader] = reader(self.container.contexts.get(reader.kind, {}))
            yield from readers[reader].read(file)


def _open_plain(path: Path, checked: bool = True):
    return open(path, "rb")


def _why_unread(suffix: str) -> str:
    if suffix in OTHER_ARCHIVES:
        return "archive of a kind that is not read"
    return OTHER_KINDS.get(suffix, ("not an image or .gnt file",))[0]


class Discovery:
    """Looks through sources, and keeps what the manifest says of them.

    Args:
        scratch: A folder that archives from within archives are unpacked into.
        photographs: Whether image files are to be cleaned.

    Attributes:
        chunks: What is to be read.
        sources: What the manifest says of each source and each archive within; `path` is the file
            whose `sha256` is still to be computed.
        skipped: Archives that cannot be read.
    """

    def __init__(self, scratch: Path, photographs: bool = False):
        self.chunks: list[Chunk] = []
        self.sources: list[dict[str, Any]] = []
        self.skipped: list[Skipped] = []
        self._scratch = scratch
        self._photographs = photographs
        self._num_unpacked = 0
        self._known: set[KnownFile | None] = set()
        # Of the source at hand: the endings of its files, and how many a reader claims.
        self._suffixes: Counter[str] = Counter()
        self._num_claimed = 0

    @property
    def known_files(self) -> list[KnownFile]:
        """The files of known data sets; empty where some of what is read belongs to none."""
        return [] if None in self._known else sorted(file for file in self._known if file)

    def add(self, path: Path, prefix: str = "") -> None:
        """Looks through a source.

        Args:
            path: A file, folder or archive.
            prefix: What goes before its sample ids.

        Raises:
            FileNotFoundError: There is nothing at the path.
            HccrError: It holds nothing that is read here, or is a broken archive.
            OSError: The disk is too full for unpacking.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        self._suffixes.clear()
        self._num_claimed = 0
        label = f"{prefix}{path.name}"
        if path.is_dir():
            self._add_folder(path, label)
        elif path.suffix.lower() == ".zip":
            self._add_archive(path, label, depth=0, described=True)
        else:
            self.sources.append(_describe_file(path, path.name))
            files = [(path.name, path.stat().st_size)]
            self._add_files(Container("file", path, label, path.name), files)
        if not self._num_claimed:
            self._refuse(path)

    def _refuse(self, path: Path) -> None:
        for suffix, _ in self._suffixes.most_common():
            if suffix in OTHER_KINDS:
                reason, remedy = OTHER_KINDS[suffix]
                raise HccrError(f"{path} holds {suffix} files: {reason}. {remedy}.")
        kinds = "; ".join(reader.kind for reader in list_readers())
        endings = ", ".join(f"{n} {s or 'without'}" for s, n in self._suffixes.most_common(5))
        broken = "; ".join(skipped.reason for skipped in self.skipped[:3])
        remedy = ""
        if set(self._suffixes) & set(OTHER_ARCHIVES):
            remedy = " Unpack archives of other kinds (.rar, .7z, .tar …) first."
        raise HccrError(
            f"{path} holds no data of a known kind (endings found: {endings or 'nothing'}"
            f"{'; ' + broken if broken else ''}). Known: {kinds}; zip archives and folders of "
            f"those.{remedy}"
        )

    def _add_folder(self, path: Path, label: str) -> None:
        digest, total, count = hashlib.sha256(), 0, 0
        archives: list[str] = []
        store = is_store(path)

        def files() -> Iterator[tuple[str, int]]:
            nonlocal total, count
            for file in walk(path):
                name = file.relative_to(path).as_posix()
                num_bytes = file.stat().st_size
                digest.update(b"%s\0%d\n" % (name.encode("utf-8", "surrogateescape"), num_bytes))
                total += num_bytes
                count += 1
                if file.suffix.lower() == ".zip":
                    archives.append(name)
                # A store's index is read through its images; its files are none of their own.
                elif not store or StoreReader.claims(name):
                    yield name, num_bytes

        self._add_files(Container("folder", path, label, path.name), files())
        self.sources.append(
            {
                "name": path.name,
                "num_bytes": total,
                "num_files": count,
                "sha256": digest.hexdigest(),
                "sha256_of": "names and sizes",
            }
        )
        for name in archives:
            self._try_archive(path / name, f"{label}/{name}", 0, True)

    def _try_archive(self, path: Path, label: str, depth: int, described: bool) -> None:
        """Takes an archive among other files; a broken one does not end the reading of those."""
        reason = f"archive within {_MAX_DEPTH} others: unpack it first"
        try:
            if depth < _MAX_DEPTH:
                reason = "archive is broken"
                self._add_archive(path, label, depth, described)
                return
        except BrokenArchive:
            pass
        self.skipped.append(Skipped(label, None, path.stat().st_size, reason))

    def _add_archive(self, path: Path, label: str, depth: int, described: bool) -> None:
        directory = ZipDirectory(path)
        if described:
            self.sources.append(_describe_file(path, label))
        nested: list[Member] = []
        self._add_members(Container("zip", path, label, path.name), directory, nested)
        for member in nested:
            source = f"{label}/{member.name}"
            refusal = member.refusal
            # Numbered: no name from an archive ever becomes a name on the disk.
            self._num_unpacked += 1
            target = self._scratch / "unpacked" / f"{self._num_unpacked:04d}.zip"
            if refusal is None:
                refusal = self._unpack(directory, member, source, target)
            if refusal is not None:
                self.skipped.append(Skipped(source, None, member.num_bytes, refusal))
            else:
                self._try_archive(target, source, depth + 1, False)

    def _unpack(
        self, directory: ZipDirectory, member: Member, source: str, target: Path
    ) -> str | None:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if member.num_bytes > free:
            raise OSError(
                errno.ENOSPC,
                f"{source} takes {member.num_bytes:,} bytes unpacked, and the disk has {free:,}",
            )
        try:
            with directory.open(member) as stream, open(target, "wb") as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
        except ARCHIVE_ERRORS:
            return "archive cannot be unpacked"
        return None

    def _add_files(self, container: Container, files: Iterable[tuple[str, int]]) -> None:
        folders: dict[type[Reader], set[str]] = {}
        names: list[str] = []
        num_bytes = 0
        for name, size in files:
            self._note(container, name, folders)
            names.append(name)
            num_bytes += size
            if num_bytes >= CHUNK_BYTES or len(names) >= CHUNK_FILES:
                self.chunks.append(Chunk(container, num_bytes, names="\0".join(names)))
                names, num_bytes = [], 0
        if names:
            self.chunks.append(Chunk(container, num_bytes, names="\0".join(names)))
        self._finish(container, folders)

    def _add_members(
        self, container: Container, directory: ZipDirectory, nested: list[Member]
    ) -> None:
        folders: dict[type[Reader], set[str]] = {}
        chunk: Chunk | None = None
        for member in directory.members():
            if member.name.lower().endswith(".zip"):
                nested.append(member)
                chunk = None  # A chunk is a stretch without a gap.
                continue
            self._note(container, member.name, folders)
            if chunk is None:
                chunk = Chunk(container, start=member.position)
                self.chunks.append(chunk)
            chunk.count += 1
            chunk.num_bytes += member.num_bytes
            if chunk.num_bytes >= CHUNK_BYTES or chunk.count >= CHUNK_FILES:
                chunk = None
        self._finish(container, folders)

    def _note(self, container: Container, name: str, folders: dict[type[Reader], set[str]]) -> None:
        suffix = os.path.splitext(name)[1].lower()
        if suffix == ".alz":
            # Were it only listed, the lack of half a data set could go unnoticed.
            raise HccrError(
                f"{container.label}/{name} is an .alz archive: unpack it first with unalz (apt "
                "install unalz, brew install unalz), and give the folder with the .gnt files in "
                "the archive's place"
            )
        self._suffixes[suffix] += 1
        reader = reader_of(name)
        if reader is None:
            return
        self._num_claimed += 1
        inside = name.rpartition("/")[0]
        seen = folders.setdefault(reader, set())
        if inside not in seen:
            seen.add(inside)
            parts = [*container.label.split("/"), *inside.split("/")]
            known = (known_file(part) for part in reversed(parts))
            self._known.add(next((file for file in known if file is not None), None))

    def _finish(self, container: Container, folders: dict[type[Reader], set[str]]) -> None:
        for reader, paths in folders.items():
            names = {container.folder_of(f"{path}/" if path else "") for path in paths}
            context = reader.context({name for name in names if name is not None})
            container.contexts[reader.kind] = {**context, "photographs": self._photographs}


def _describe_file(path: Path, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "num_bytes": path.stat().st_size,
        "sha256": None,
        "sha256_of": "content",
        "path": path,
    }


def walk(path: Path) -> Iterator[Path]:
    """Yields the files of a folder by name, at any depth.

    Linked folders are followed, as leaving them out would go unnoticed; each only once, as links
    can run in circles.
    """
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


def read_source(path: str | os.PathLike[str], scratch: Path) -> Iterator[Record]:
    """Yields all records of one source in order, in this process.

    Args:
        path: A file, folder or archive.
        scratch: A folder for what has to be unpacked.

    Raises:
        FileNotFoundError, HccrError, OSError: As `Discovery.add`.
    """
    discovery = Discovery(scratch)
    discovery.add(Path(path))
    yield from discovery.skipped
    for chunk in discovery.chunks:
        yield from chunk.records()
