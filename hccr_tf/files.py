"""Atomic writing: a file or folder is there completely, or as it was before."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20


def _temporary_sibling(path: Path, kind: str) -> Path:
    # A sibling lies on the same file system, which os.replace needs. Names are short because
    # many file systems stop at 255 bytes.
    return path.with_name(f".{path.name[:60]}.{kind}-{uuid.uuid4().hex[:8]}")


def _sync(path: Path) -> None:
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
    """Yields a temporary path that takes the place of `path` if the block succeeds.

    The temporary file lies in the same folder. At the end of the block it is flushed to the disk
    and renamed, so that `path` holds the earlier or the new content at every moment, also when the
    process is killed. If the block raises, the temporary file is removed and `path` is untouched.

    Args:
        path: The file to write. Its folder must exist.

    Yields:
        The path to write to.

    Raises:
        FileNotFoundError: The folder of `path` does not exist, or the block wrote nothing.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} does not exist, so {path.name} cannot be written")
    temporary = _temporary_sibling(path, "partial")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` if the block succeeds.

    The folder is built as a hidden sibling `.NAME.partial-…`. With `overwrite`, an earlier `path`
    is moved aside, and deleted only once the new one stands in its place. If the block raises, the
    temporary folder is removed and the earlier state is intact. A killed process leaves its
    partial folder behind, which may be deleted by hand; it is never taken for a finished one.

    Args:
        path: The folder to make. Missing parents are made.
        overwrite: Whether an earlier, non-empty `path` may be replaced.

    Yields:
        The folder to write into.

    Raises:
        FileExistsError: `path` is there and not empty, and `overwrite` is off, or is a file.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise FileExistsError(f"{path} is no plain folder and is not replaced")
    if path.exists() and not overwrite and any(path.iterdir()):
        raise FileExistsError(f"{path} exists and is not empty")
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name[:60]}.partial-*"):
        logger.warning("%s is left from an interrupted run and can be deleted", leftover)
    temporary = _temporary_sibling(path, "partial")
    old = _temporary_sibling(path, "old")
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            _sync(file)
        _sync(temporary)
        if path.exists():
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except BaseException:
            if old.exists():
                os.rename(old, path)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(path.parent)
    if old.exists():
        shutil.rmtree(old, ignore_errors=True)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's content as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Writes `obj` atomically as UTF-8 JSON, indented by two, characters unescaped."""
    with atomic_write(path) as temporary:
        text = json.dumps(obj, ensure_ascii=False, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a UTF-8 JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not UTF-8 or not JSON; the message names the file and the place.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from error
