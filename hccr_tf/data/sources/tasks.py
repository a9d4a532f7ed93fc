"""Folders and archives whose files are cut into tasks, and how a task's files are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hccr_tf.data.sources.reader import Reader, SourceFile, reader_of
from hccr_tf.data.sources.records import Record, Skipped
from hccr_tf.data.sources.zip_stream import Member, ZipDirectory

_BOMB_RATIO, _BOMB_BYTES = 250, 256 << 20
OTHER_KINDS = {
    ".mpf": "CASIA feature file (512 numbers a character), no images",
    ".dgr": "CASIA text page, no single characters",
    ".dgrl": "CASIA text page, no single characters",
    ".pot": "CASIA online handwriting (pen movements), no images",
    ".ptts": "CASIA online handwriting (pen movements), no images",
}
OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".egg", ".z01")


@dataclass
class Container:
    """A folder, archive or single file, as plain data.

    Attributes:
        kind: "folder", "zip" or "file".
        path: Where it is.
        label: What goes before the names of its files in sample ids.
        name: Its own name, without the names of what it lies in.
        hints: By reader's name: what `Reader.hints` said.
    """

    kind: str
    path: str
    label: str
    name: str
    hints: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Task:
    """A stretch of a container's files, as plain data.

    Attributes:
        number: Place in the plan.
        container: Place of its container in the plan.
        num_bytes: Sum of its files' sizes.
        start, count: For an archive: position of the first directory entry, number of files.
        files: For a folder: paths inside of it.
    """

    number: int
    container: int
    num_bytes: int = 0
    start: int | None = None
    count: int = 0
    files: list[str] = field(default_factory=list)


def task_files(container: Container, task: Task) -> Iterator[SourceFile]:
    """Yields the files of a task in order."""
    if container.kind != "zip":
        for name in task.files:
            yield _plain_file(container, name)
        return
    directory = ZipDirectory(container.path)
    for member in directory.members(task.start, task.count):
        yield _member_file(container, directory, member)


def _plain_file(container: Container, name: str) -> SourceFile:
    path = path_of(container, name)
    source = container.label if container.kind == "file" else f"{container.label}/{name}"
    opener = partial(open, path, "rb")
    return SourceFile(
        name,
        source,
        folder_of(container, name),
        path.stat().st_size,
        opener,
        opener,
        path=path,
        beside=partial(_plain_file_beside, container, name),
    )


def _plain_file_beside(container: Container, name: str, others: Sequence[str]) -> SourceFile | None:
    folder = name[: name.rfind("/") + 1]
    for other in others:
        path = path_of(container, name).with_name(other)
        if path.is_file():
            if container.kind == "file":
                label = container.label.removesuffix(container.name) + other
                container = replace(container, path=str(path), label=label, name=other)
            return _plain_file(container, folder + other)
    return None


def _member_file(container: Container, directory: ZipDirectory, member: Member) -> SourceFile:
    return SourceFile(
        member.name,
        f"{container.label}/{member.name}",
        folder_of(container, member.name),
        member.num_bytes,
        partial(directory.open, member),
        partial(directory.open, member, checked=False),
        member.crc,
        refusal=refusal_of_member(member),
        beside=partial(_member_beside, container, directory, member.name),
    )


def _member_beside(
    container: Container, directory: ZipDirectory, name: str, others: Sequence[str]
) -> SourceFile | None:
    folder = name[: name.rfind("/") + 1]
    wanted = {folder + other for other in others}
    # One pass for all names, as a directory can have millions of entries.
    found = {m.name: m for m in directory.members() if m.name in wanted} if wanted else {}
    for other in others:
        if folder + other in found:
            return _member_file(container, directory, found[folder + other])
    return None


def refusal_of_member(member: Member) -> str | None:
    """Why an archive's member isn't unpacked, or None."""
    if member.link:
        return "link in an archive"
    if member.encrypted:
        return "encrypted archive member"
    if member.num_bytes > _BOMB_BYTES and member.num_bytes > _BOMB_RATIO * member.packed:
        return "unpacks to more than 250 times its size"
    return None


def read_files(container: Container, files: Iterable[SourceFile]) -> Iterator[Record]:
    """Yields the records of files; every file yields at least one, or is quarantined."""
    readers: dict[type[Reader], Reader] = {}
    for file in files:
        kind = reader_of(file.name)
        if file.refusal is not None:
            yield Skipped(file.source, None, file.num_bytes, file.refusal)
        elif kind is None:
            reason = OTHER_KINDS.get(file.suffix, "not an image or .gnt file")
            if file.suffix in OTHER_ARCHIVES:
                reason = "archive of a kind that is not read"
            yield Skipped(file.source, None, file.num_bytes, reason)
        else:
            if kind not in readers:
                readers[kind] = kind(container.hints.get(kind.name, {}))
            yield from readers[kind].read(file)


def path_of(container: Container, name: str) -> Path:
    """Where a file of a folder lies."""
    path = Path(container.path)
    return path if container.kind == "file" else path / name


def folder_of(container: Container, name: str) -> str | None:
    """The name of the folder that a file lies in, or None."""
    parts = name.split("/")
    if len(parts) > 1:
        return parts[-2]
    return container.name if container.kind == "folder" else None
