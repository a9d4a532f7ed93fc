"""What a source holds: folders and archives within each other, cut into chunks that are read.

A source is looked through once, by names and sizes. The chunks do not depend on the number of
processes that read them, so that neither does the store.
"""

import errno
import hashlib
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hccr_tf.charset import Charset
from hccr_tf.data.sources.catalogue import OTHER_ARCHIVES, OTHER_KINDS, KnownFile, known_file
from hccr_tf.data.sources.folder_names import Naming, core, decide_naming
from hccr_tf.data.sources.labels import Labels
from hccr_tf.data.sources.reader import Reader, SourceFile, list_readers, reader_of
from hccr_tf.data.sources.records import Record, Skipped
from hccr_tf.data.sources.store_source import StoreReader, is_store
from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS, BrokenArchive, Member, ZipDirectory
from hccr_tf.utils.errors import HccrError

CHUNK_BYTES = 64 << 20
CHUNK_FILES = 2048
"""A chunk ends after so many bytes or files: the layout of the store follows from them."""

_MAX_DEPTH = 3
_LABELS = (
    "--labels FILE says which is which: a CSV of path and label, or a JSON file, label.txt or "
    "char_dict of numbers and characters."
)


@dataclass
class Container:
    """A folder or archive, as plain data.

    Attributes:
        path: Where it is.
        label: What goes before the names of its files in sample ids.
        folder: The name of the folder that files lie in which lie in no other; None in archives.
        archived: Whether it is an archive.
        options: What its readers take; see `Reader`.
    """

    path: Path
    label: str
    folder: str | None = None
    archived: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Chunk:
    """A stretch of a container's files, as plain data; `records` reads it.

    Attributes:
        container: What the files lie in.
        first, last: Of an archive: positions of the first and last directory entry.
        names: Of a folder: paths inside of it, in one text with a zero after each, as millions of
            texts would take gigabytes.
        num_bytes: Sum of the files' sizes.
        characters: By a file's path in the container: what a file of labels says; None without.
    """

    container: Container
    first: int
    last: int = 0
    names: str = ""
    num_bytes: int = 0
    characters: dict[str, str | None] | None = None

    def files(self) -> Iterator[SourceFile | Skipped]:
        """Yields the files in order, or why one is not read."""
        container = self.container
        if not container.archived:
            for name in self.names.split("\0")[:-1]:
                path, source = container.path / name, container.label + name
                opener = partial(path.open, "rb")
                size = path.stat().st_size
                yield SourceFile(name, source, self._class_name(name), size, opener, path=path)
            return
        directory = ZipDirectory(container.path)
        for member in directory.members(self.first, self.last):
            name, source = member.name, container.label + member.name
            if _suffix(name) == ".zip":
                continue  # A container of its own.
            if member.refusal:
                yield Skipped(source, None, member.num_bytes, member.refusal)
                continue
            class_name, unpack = self._class_name(name), partial(directory.open, member)
            yield SourceFile(name, source, class_name, member.num_bytes, unpack, member.crc)

    def _class_name(self, name: str) -> str | None:
        if self.characters is not None:
            return self.characters.get(name)
        return self.container.options["naming"].name(name, self.container.folder)

    def records(self) -> Iterator[Record]:
        """Yields the records of the files; every file yields at least one, or is skipped."""
        readers: dict[type[Reader], Reader] = {}
        for file in self.files():
            if isinstance(file, Skipped):
                yield file
                continue
            reader = reader_of(file.name)
            if reader is None:
                suffix = _suffix(file.name)
                reason, _ = OTHER_KINDS.get(suffix, ("not an image or .gnt file", ""))
                if suffix in OTHER_ARCHIVES:
                    reason = "archive of a kind that is not read"
                yield Skipped(file.source, None, file.num_bytes, reason)
                continue
            if reader not in readers:
                readers[reader] = reader(self.container.options)
            yield from readers[reader].read(file)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


class Discovery:
    """Looks through sources, and keeps what the manifest says of them.

    Args:
        scratch: A folder that archives from within archives are unpacked into.
        photographs: Whether image files are cleaned.
        charset: The characters that are likely, in the order of their numbers; or None.
        labels: What a file of labels says of images' paths and of numbers; or None.

    Attributes:
        chunks: What is to be read.
        sources: What the manifest says of each source and each archive within; `path` is the file
            whose `sha256` is still to be computed.
        skipped: Archives that cannot be read.
    """

    def __init__(
        self,
        scratch: Path,
        photographs: bool = False,
        charset: Charset | None = None,
        labels: Labels | None = None,
    ):
        self.chunks: list[Chunk] = []
        self.sources: list[dict[str, Any]] = []
        self.skipped: list[Skipped] = []
        self._scratch = scratch
        self._charset, self._labels = charset or (), labels
        classes = dict(enumerate(self._charset)) | (labels.of_number if labels else {})
        self._options = {"photographs": photographs, "classes": classes}
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
        self._num_claimed, first = 0, len(self.skipped)
        label = f"{prefix}{path.name}"
        if path.is_dir():
            self._add_folder(path, f"{label}/")
        elif not path.is_file():
            raise HccrError(f"{path} is no plain file, and a pipe can't be read twice; save it")
        elif _suffix(path.name) == ".zip":
            self._add_archive(path, label, depth=0)
        else:
            self._describe(path, path.name)
            self._cut(Container(path.parent, prefix), [(path.name, path.stat().st_size, 0)])
        if not self._num_claimed:
            self._refuse(path, self.skipped[first:])

    def _describe(self, path: Path, name: str) -> None:
        num_bytes = path.stat().st_size
        described = {"name": name, "num_bytes": num_bytes, "sha256": None, "sha256_of": "content"}
        self.sources.append({**described, "path": path})

    def _refuse(self, path: Path, skipped: list[Skipped]) -> None:
        if skipped:
            broken = "; ".join(f"{archive.source}: {archive.reason}" for archive in skipped[:5])
            raise HccrError(f"{path} holds nothing that can be read. {broken}.")
        for suffix, _ in self._suffixes.most_common():
            if suffix in OTHER_KINDS:
                reason, remedy = OTHER_KINDS[suffix]
                raise HccrError(f"{path} holds {suffix} files: {reason}. {remedy}.")
        kinds = "; ".join(reader.kind for reader in list_readers())
        endings = ", ".join(f"{n} {s or 'without'}" for s, n in self._suffixes.most_common(5))
        remedy = ""
        if set(self._suffixes) & set(OTHER_ARCHIVES):
            remedy = " Unpack archives of other kinds (.rar, .7z, .tar …) first."
        raise HccrError(
            f"{path} holds no data of a known kind (endings found: {endings or 'nothing'}). Known: "
            f"{kinds}; zip archives and folders of those.{remedy}"
        )

    def _add_folder(self, path: Path, label: str) -> None:
        digest, sizes = hashlib.sha256(), []
        archives: list[str] = []
        store = is_store(path)

        def files() -> Iterator[tuple[str, int, int]]:
            for file in _walk(path):
                name = file.relative_to(path).as_posix()
                if not file.is_file():  # a pipe would be waited for
                    self.skipped.append(Skipped(label + name, None, 0, "no plain file"))
                    continue
                sizes.append(file.stat().st_size)
                digest.update(b"%s\0%d\n" % (name.encode("utf-8", "surrogateescape"), sizes[-1]))
                if _suffix(name) == ".zip":
                    archives.append(name)
                # A store's index is read through its images; its files are none of their own.
                elif not store or StoreReader.claims(name):
                    yield name, sizes[-1], 0

        self._cut(Container(path, label, path.name), files())
        self.sources.append(
            {
                "name": path.name,
                "num_bytes": sum(sizes),
                "num_files": len(sizes),
                "sha256": digest.hexdigest(),
                "sha256_of": "names and sizes",
            }
        )
        for name in archives:
            self._try_archive(path / name, label + name, depth=0)

    def _try_archive(self, path: Path, label: str, depth: int) -> None:
        """Takes an archive among other files; a broken one does not end the reading of those."""
        reason = f"archive within {_MAX_DEPTH} others: unpack it first"
        if depth < _MAX_DEPTH:
            try:
                return self._add_archive(path, label, depth)
            except BrokenArchive:
                reason = "archive is cut short or damaged: fetch it again"
        self.skipped.append(Skipped(label, None, path.stat().st_size, reason))

    def _add_archive(self, path: Path, label: str, depth: int) -> None:
        directory = ZipDirectory(path)
        if depth == 0:
            self._describe(path, label)
        nested: list[Member] = []

        def files() -> Iterator[tuple[str, int, int]]:
            for member in directory.members():
                if _suffix(member.name) == ".zip":
                    nested.append(member)
                else:
                    yield member.name, member.num_bytes, member.position

        self._cut(Container(path, f"{label}/", archived=True), files())
        for member in nested:
            source = f"{label}/{member.name}"
            # Numbered: no name from an archive ever becomes a name on the disk.
            self._num_unpacked += 1
            target = self._scratch / "unpacked" / f"{self._num_unpacked:04d}.zip"
            refusal = member.refusal or _unpack(directory, member, source, target)
            if refusal:
                self.skipped.append(Skipped(source, None, member.num_bytes, refusal))
            else:
                self._try_archive(target, source, depth + 1)

    def _cut(self, container: Container, files: Iterable[tuple[str, int, int]]) -> None:
        """Cuts a container into chunks, by its files' names, sizes and positions."""
        folders: set[str] = set()
        named: set[str] = set()  # those of files whose path names their class
        cores: Counter[str | None] = Counter()
        num_files = CHUNK_FILES
        for name, num_bytes, position in files:
            suffix = _suffix(name)
            if suffix == ".alz":
                # Were it only listed, the lack of half a data set could go unnoticed.
                raise HccrError(
                    f"{container.label}{name} is an .alz archive: unpack it first with unalz (apt "
                    "install unalz, brew install unalz), and give the folder with the .gnt files "
                    "in the archive's place"
                )
            self._suffixes[suffix] += 1
            reader, (folder, _, file) = reader_of(name), name.rpartition("/")
            if reader:
                self._num_claimed += 1
                folders.add(folder)
            if num_files >= CHUNK_FILES or self.chunks[-1].num_bytes >= CHUNK_BYTES:
                labelled: dict[str, str | None] = {}
                characters = labelled if self._labels else None
                self.chunks.append(Chunk(container, position, characters=characters))
                num_files = 0
            chunk = self.chunks[-1]
            if reader and reader.by_path:
                named.add(folder)
                if self._labels:
                    labelled[name] = self._labels.of(name, container.label + name)
                else:
                    cores[core(file.rpartition(".")[0])] += 1
            chunk.last = position
            chunk.num_bytes += num_bytes
            num_files += 1
            if not container.archived:
                chunk.names += f"{name}\0"
        for folder in folders:
            known = map(known_file, reversed(f"{container.label}{folder}".split("/")))
            self._known.add(next(filter(None, known), None))
        naming = Naming(level=0)
        if not self._labels:
            naming = decide_naming(named, cores, container.folder, self._charset)
            if naming.doubt:
                raise HccrError(f"{container.label.rstrip('/')}: {naming.doubt}. {_LABELS}")
        container.options = {**self._options, "naming": naming}


def _unpack(directory: ZipDirectory, member: Member, source: str, target: Path) -> str | None:
    """Unpacks an archive within an archive; returns why it cannot be, or None."""
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if member.num_bytes > free:
        raise OSError(
            errno.ENOSPC,
            f"{source} takes {member.num_bytes:,} bytes unpacked, and the disk has {free:,}",
        )
    crc = 0
    try:
        with directory.open(member) as stream, open(target, "wb") as copy:
            while block := stream.read(1 << 20):
                crc = zlib.crc32(block, crc)
                copy.write(block)
    except ARCHIVE_ERRORS:
        return "archive cannot be unpacked"
    return None if crc == member.crc else "archive cannot be unpacked"


def _walk(path: Path) -> Iterator[Path]:
    """Yields the files of a folder by name, at any depth.

    Linked folders are followed, as leaving them out would go unnoticed; each only once, as links
    can run in circles.
    """

    def refuse(error: OSError) -> None:
        raise error  # what lies there, such as the test split, would be left out in silence

    seen: set[str] = set()
    for root, folders, files in os.walk(path, onerror=refuse, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for file in sorted(files):
            yield Path(root, file)
