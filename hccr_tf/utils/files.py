"""Atomic writing: a file or folder is there completely, or as it was before."""

import contextlib
import csv
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.schema import AGAIN, parse_json
from hccr_tf.utils.terminal import printable


def _temporary_sibling(path: Path, kind: str) -> Path:
    # A sibling lies on the same file system, which os.replace needs. Names are short because
    # many file systems stop at 255 bytes.
    return path.with_name(f".{path.name[:60]}.{kind}-{uuid.uuid4().hex[:8]}")


def sync(path: Path) -> None:
    """Flushes a file, or a folder's list of names, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder; its renames are journalled.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the same folder that takes the place of `path` at the end.

    It is flushed to the disk and renamed, so that `path` holds the earlier or the new content at
    every moment, also when the process is killed. If the block raises, `path` is untouched.

    Raises:
        FileNotFoundError: The folder of `path` does not exist, or the block wrote nothing.
        HccrError: At `path` is something that must not be replaced, such as a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise HccrError(f"{path} is no plain file and is not replaced; name another")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} does not exist, so {path.name} cannot be written")
    temporary = _temporary_sibling(path, "partial")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def replace_directory(made: Path, path: Path) -> None:
    """Flushes a folder to the disk and renames it to a path on the same file system.

    An earlier folder there is moved aside and deleted only once the new one stands in its place;
    whatever fails, one of the two is there.
    """
    for file in (*made.rglob("*"), made):
        sync(file)
    old = _temporary_sibling(path, "old")
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(made, path)
    except BaseException:
        if old.exists():
            os.rename(old, path)
        raise
    sync(path.parent)
    if old.exists():
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def exclusive_lock(path: Path, busy: str, patience: float = 10.0) -> Iterator[None]:
    """Holds a lock that ends with the process, however it ends.

    Args:
        path: The lock file; made if need be.
        busy: The message where another process holds it.
        patience: Seconds to wait: what a killed process began may take a moment to end.

    Raises:
        BlockingIOError: Another process holds the lock.
    """
    try:
        with FileLock(path, timeout=patience):
            yield
    except Timeout:
        raise BlockingIOError(errno.EAGAIN, busy) from None


def is_locked(path: Path) -> bool | None:
    """Whether a process holds the lock of a file; None where that can't be tried."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # someone else's file
        return None


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's content as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Writes `obj` atomically as UTF-8 JSON, indented by two, characters unescaped."""
    with atomic_write(path) as temporary:
        text = json.dumps(obj, ensure_ascii=False, indent=2) + "\n"
        # Names that are no UTF-8 become JSON's own escapes, and come back as they were.

        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def read_json(path: str | os.PathLike[str], kind: Any = Any, remedy: str = AGAIN) -> Any:
    """Reads a UTF-8 JSON file of a kind; see `schema.check`.

    Raises:
        FileNotFoundError: There is no such file.
        HccrError: It is not UTF-8, not JSON or not of the kind; file and place are named.
    """
    return parse_json(Path(path).read_bytes(), path, kind, remedy)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Returns short names of folders: "1-best" and "2-best" for runs/1/best and runs/2/best.

    Raises:
        HccrError: Two are the same folder.
    """
    paths = [Path(path).absolute() for path in paths]
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["-".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise HccrError(f"A folder was named twice: {', '.join(map(str, paths))}.")


def _cell(value: Any) -> Any:
    """Makes a text safe where tables are opened: no program takes it for a formula."""
    if not isinstance(value, str) or re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?( ?%)?|.?", value):
        return value
    value = printable(value)
    return f"'{value}" if value[0] in "=+-@" else value


def write_rows(path: str | os.PathLike[str], head: Iterable[str], rows: Iterable) -> None:
    """Writes rows atomically as UTF-8 CSV, as they come: for tables larger than the memory.

    Texts that begin as formulas do get an apostrophe before them, as do those of `write_csv`.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        cells = (map(_cell, row) for row in itertools.chain([head], rows))
        csv.writer(stream, lineterminator="\n").writerows(cells)


def write_csv(path: str | os.PathLike[str], table: Any, **options: Any) -> None:
    """Writes a pandas DataFrame atomically as UTF-8 CSV, without its index; see `to_csv`."""
    with atomic_write(path) as temporary:
        table.map(_cell).to_csv(temporary, index=False, lineterminator="\n", **options)
