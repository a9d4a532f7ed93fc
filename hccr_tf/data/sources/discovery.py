"""What a source holds: folders and archives within each other, their files, cut into tasks.

A source is looked through once, by names and sizes. The result is a plan: containers (folders and
archives) and tasks (stretches of their files), which does not depend on the number of workers, so
that neither does the store.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hccr_tf.data.sources.alz import check_alz, needs_program, unpack_alz
from hccr_tf.data.sources.catalogue import Part as KnownPart
from hccr_tf.data.sources.catalogue import known_set
from hccr_tf.data.sources.reader import Reader, list_readers, reader_of
from hccr_tf.data.sources.records import Record, Skipped, Unreadable
from hccr_tf.data.sources.store_source import StoreReader, is_store
from hccr_tf.data.sources.tasks import (
    OTHER_ARCHIVES,
    OTHER_KINDS,
    Container,
    Task,
    folder_of,
    path_of,
    read_files,
    refusal_of_member,
    task_files,
)
from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS, Member, ZipDirectory
from hccr_tf.utils.errors import HccrError

TASK_BYTES = 64 << 20
TASK_FILES = 2048
"""A task ends after so many bytes or files: the layout of the store follows from them."""

_MAX_DEPTH = 3
_COPY = 1 << 20

_REMEDIES = {
    ".mpf": "These are the features of HWDB1.xtrn.zip and HWDB1.xtst.zip. The images are in the "
    "archives with gnt in their names: Gnt1.0TrainPart1.zip …, in older downloads "
    "HWDB1.0trn_gnt.zip …",
    ".dgr": "Those are the sets HWDB2.x. Single characters are in HWDB1.x (Gnt1.0TrainPart1.zip …)",
    ".dgrl": "Those are the sets HWDB2.x. Single characters are in HWDB1.x "
    "(Gnt1.0TrainPart1.zip …)",
    ".pot": "Those are the sets OLHWDB. Images are in HWDB1.x (Gnt1.0TrainPart1.zip …)",
    ".ptts": "Those are the sets OLHWDB. Images are in HWDB1.x (Gnt1.0TrainPart1.zip …)",
}


@dataclass
class Plan:
    """What is to be read.

    Attributes:
        containers: All folders, archives and single files.
        tasks_path: JSON lines, a `Task` each.
        num_tasks: How many there are.
        num_bytes: Sum over the tasks.
        sources: What the manifest says of each source and each archive within.
        quarantined: Archives that cannot be read, as `Skipped`.
        known: The known data sets that the files' folders and archives name; empty where some of
            the files belong to none.
        fingerprint: SHA-256 over names, sizes and times: another plan has another.
    """

    containers: list[Container]
    tasks_path: Path
    num_tasks: int
    num_bytes: int
    sources: list[dict[str, Any]]
    quarantined: list[Skipped]
    known: list[KnownPart]
    fingerprint: str

    def tasks(self) -> Iterator[Task]:
        """Yields all tasks in order; they are kept on the disk, as they may name all files."""
        with open(self.tasks_path, encoding="utf-8") as stream:
            for line in stream:
                yield Task(**json.loads(line))


def make_plan(paths: Sequence[Path], prefixes: Sequence[str], folder: Path) -> Plan:
    """Looks through sources.

    Args:
        paths: The sources: files, folders and archives.
        prefixes: What goes before the sample ids of each.
        folder: Where the list of tasks goes, and archives from within archives are unpacked.

    Raises:
        FileNotFoundError: There is nothing at a path.
        HccrError: A source holds nothing that is read here, or is a broken archive; an archive
            needs a program that is not installed.
        OSError: The disk is too full for unpacking.
    """
    with _Planner(folder) as planner:
        for path, prefix in zip(paths, prefixes, strict=True):
            planner.add_source(path, prefix)
        return planner.plan()


class _Planner:
    def __init__(self, folder: Path):
        self._folder = folder
        self._tasks_path = folder / "tasks.jsonl"
        self._tasks = open(self._tasks_path, "w", encoding="utf-8")  # noqa: SIM115
        self._containers: list[Container] = []
        self._num_tasks = self._num_bytes = self._num_unpacked = 0
        self._sources: list[dict[str, Any]] = []
        self._quarantined: list[Skipped] = []
        self._hash = hashlib.sha256()
        self._suffixes: Counter[str] = Counter()
        self._claimed = 0
        self._known: set[KnownPart | None] = set()
        self._folders_seen: set[tuple[int, str]] = set()

    def __enter__(self) -> _Planner:
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.close()

    def plan(self) -> Plan:
        self._tasks.close()
        self._hash.update(json.dumps([asdict(c) for c in self._containers]).encode())
        return Plan(
            self._containers,
            self._tasks_path,
            self._num_tasks,
            self._num_bytes,
            self._sources,
            self._quarantined,
            [] if None in self._known else sorted(self._known),
            self._hash.hexdigest(),
        )

    def add_source(self, path: Path, prefix: str) -> None:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        self._suffixes.clear()
        self._claimed = 0
        label = f"{prefix}{path.name}"
        if path.is_dir():
            self._add_folder(path, label, path.name, described=True)
        elif path.suffix.lower() in (".zip", ".alz"):
            self._add_archive(path, label, depth=0, described=True)
        else:
            self._sources.append(_describe_file(path, path.name))
            self._add_files(Container("file", str(path), label, path.name), [path.name])
        if not self._claimed:
            self._refuse(path)

    def _refuse(self, path: Path) -> None:
        for suffix, _ in self._suffixes.most_common():
            if suffix in OTHER_KINDS:
                raise HccrError(
                    f"{path} holds {suffix} files: {OTHER_KINDS[suffix]}. {_REMEDIES[suffix]}."
                )
        known = "; ".join(reader.name for reader in list_readers())
        found = (
            ", ".join(f"{n} {suffix or 'without'}" for suffix, n in self._suffixes.most_common(5))
            or "nothing"
        )
        remedy = (
            " Unpack archives of other kinds (.rar, .7z, .tar …) first."
            if set(self._suffixes) & set(OTHER_ARCHIVES)
            else ""
        )
        broken = "; ".join(q.reason for q in self._quarantined[:3])
        raise HccrError(
            f"{path} holds no data of a known kind (endings found: {found}"
            f"{'; ' + broken if broken else ''}). Known: {known}; zip archives and folders of "
            f"those.{remedy}"
        )

    # === Containers ===

    def _add_folder(
        self, path: Path, label: str, title: str, depth: int = 0, described: bool = False
    ) -> None:
        digest, totals = hashlib.sha256(), [0, 0]
        archives: list[str] = []

        def files() -> Iterator[str]:
            for file in walk(path):
                relative = file.relative_to(path).as_posix()
                num_bytes = file.stat().st_size
                name = relative.encode("utf-8", "surrogateescape")
                digest.update(b"%s\0%d\n" % (name, num_bytes))
                totals[0] += num_bytes
                totals[1] += 1
                if file.suffix.lower() in (".zip", ".alz"):
                    archives.append(relative)
                else:
                    yield relative

        self._add_files(Container("folder", str(path), label, title), files())
        if described:
            self._sources.append(
                {
                    "name": title,
                    "num_bytes": totals[0],
                    "num_files": totals[1],
                    "sha256": digest.hexdigest(),
                    "sha256_of": "names and sizes",
                }
            )
        for archive in archives:
            self._try_archive(path / archive, f"{label}/{archive}", depth, described)

    def _try_archive(self, path: Path, label: str, depth: int, described: bool) -> None:
        """Takes an archive among other files; a broken one does not end the reading of those."""
        try:
            self._add_archive(path, label, depth, described)
        except ValueError as error:
            if needs_program(path):
                raise
            num_bytes = path.stat().st_size
            reason = error.reason if isinstance(error, Unreadable) else "archive is broken"
            self._quarantined.append(Skipped(label, None, num_bytes, reason))
            self._hash.update(f"{label}\0{error}".encode("utf-8", "surrogateescape"))

    def _add_archive(self, path: Path, label: str, depth: int, described: bool = False) -> None:
        if depth >= _MAX_DEPTH:
            raise Unreadable(
                f"{label} lies in {depth} archives within each other; unpack it first",
                f"archive within {_MAX_DEPTH} others: unpack it first",
            )
        if path.suffix.lower() == ".alz":
            check_alz(path, self._free_bytes())
            folder = self._unpack_folder()
            unpack_alz(path, folder)
            if described:
                self._sources.append(_describe_file(path, label))
            self._add_folder(folder, label, path.name, depth + 1)
            return
        directory = ZipDirectory(path)
        if described:
            self._sources.append(_describe_file(path, label))
        nested: list[Member] = []
        container = Container("zip", str(path), label, path.name)
        self._add_members(container, directory, nested)
        for member in nested:
            source = f"{label}/{member.name}"
            refusal = refusal_of_member(member)
            if refusal is None and member.num_bytes > self._free_bytes():
                raise OSError(
                    errno.ENOSPC,
                    f"{source} takes {member.num_bytes:,} bytes unpacked and the disk has "
                    f"{self._free_bytes():,} left",
                )
            target = self._unpack_folder() / f"archive{os.path.splitext(member.name)[1].lower()}"
            try:
                if refusal is None:
                    with directory.open(member) as stream, open(target, "wb") as copy:
                        shutil.copyfileobj(stream, copy, _COPY)
            except ARCHIVE_ERRORS:
                refusal = "archive cannot be unpacked"
            if refusal is not None:
                self._quarantined.append(Skipped(source, None, member.num_bytes, refusal))
                continue
            self._try_archive(target, source, depth + 1, False)

    def _unpack_folder(self) -> Path:
        # Numbered: no name from an archive ever becomes a name on the disk.
        self._num_unpacked += 1
        folder = self._folder / "unpacked" / f"{self._num_unpacked:04d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._folder).free

    # === Tasks ===

    def _add_files(self, container: Container, names: Iterable[str]) -> None:
        number = self._begin(container)
        readers: dict[type[Reader], set[str]] = {}
        task = Task(0, number)
        # A store's index is read through its images; its files are none of their own.
        store = container.kind == "folder" and is_store(container.path)
        for name in names:
            if store and not StoreReader.claims(name):
                continue
            self._note(container, name, readers)
            file = path_of(container, name)
            stat = file.stat()
            self._hash.update(
                b"%s\0%d\0%d\n"
                % (name.encode("utf-8", "surrogateescape"), stat.st_size, stat.st_mtime_ns)
            )
            task.files.append(name)
            task.num_bytes += stat.st_size
            if task.num_bytes >= TASK_BYTES or len(task.files) >= TASK_FILES:
                self._emit(task)
                task = Task(0, number)
        self._emit(task)
        self._finish(container, readers)

    def _add_members(
        self, container: Container, directory: ZipDirectory, nested: list[Member]
    ) -> None:
        number = self._begin(container)
        readers: dict[type[Reader], set[str]] = {}
        task = Task(0, number)
        stat = os.stat(container.path)
        # An archive from within an archive is unpacked anew each time: its own time says nothing.
        unpacked = Path(container.path).is_relative_to(self._folder)
        time = 0 if unpacked else stat.st_mtime_ns
        self._hash.update(b"%d\0%d\n" % (stat.st_size, time))
        for member in directory.members():
            self._hash.update(b"%d\0%d\n" % (member.crc, member.num_bytes))
            if os.path.splitext(member.name)[1].lower() in (".zip", ".alz"):
                nested.append(member)
                # A task is a stretch without a gap.
                self._emit(task)
                task = Task(0, number)
                continue
            self._note(container, member.name, readers)
            if task.start is None:
                task.start = member.position
            task.count += 1
            task.num_bytes += member.num_bytes
            if task.num_bytes >= TASK_BYTES or task.count >= TASK_FILES:
                self._emit(task)
                task = Task(0, number)
        self._emit(task)
        self._finish(container, readers)

    def _begin(self, container: Container) -> int:
        self._containers.append(container)
        return len(self._containers) - 1

    def _note(self, container: Container, name: str, readers: dict[type[Reader], set[str]]) -> None:
        self._suffixes[os.path.splitext(name)[1].lower()] += 1
        reader = reader_of(name)
        if reader is None:
            return
        self._claimed += 1
        folder = folder_of(container, name)
        if folder is not None:
            readers.setdefault(reader, set()).add(folder)
        place = (len(self._containers), name.rpartition("/")[0])
        if place not in self._folders_seen:
            self._folders_seen.add(place)
            parts = [*container.label.split("/"), *place[1].split("/")]
            found = (known_set(part) for part in reversed(parts))
            self._known.add(next((part for part in found if part is not None), None))

    def _finish(self, container: Container, readers: dict[type[Reader], set[str]]) -> None:
        for reader, folders in readers.items():
            container.hints[reader.name] = reader.hints(folders)

    def _emit(self, task: Task) -> None:
        if not task.files and not task.count:
            return
        task.number = self._num_tasks
        self._tasks.write(json.dumps(asdict(task)) + "\n")
        self._num_tasks += 1
        self._num_bytes += task.num_bytes


def _describe_file(path: Path, name: str) -> dict[str, Any]:
    # `sha256` is filled in later, beside the reading.
    return {
        "name": name,
        "num_bytes": path.stat().st_size,
        "sha256": None,
        "sha256_of": "content",
        "path": str(path),
    }


def walk(path: Path) -> Iterator[Path]:
    """Yields the files of a folder by name, at any depth; or the file itself.

    Linked folders are followed, as leaving them out would go unnoticed; each only once, as links
    can run in circles.
    """
    if path.is_file():
        yield path
        return
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
        As `make_plan`.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    plan = make_plan([Path(path)], [""], scratch)
    yield from plan.quarantined
    for task in plan.tasks():
        container = plan.containers[task.container]
        yield from read_files(container, task_files(container, task))
