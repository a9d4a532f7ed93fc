"""Which reader reads which source.

A new kind of source is one file in this folder: a class that fulfils `samples.Reader`, decorated
with `@register_reader`, and its module's name in `_MODULES`.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from hccr_tf.data.samples import Reader

_MODULES = ("hccr_tf.data.gnt", "hccr_tf.data.image_folder")

_READERS: dict[str, type[Reader]] = {}


def register_reader(cls: type[Reader]) -> type[Reader]:
    """Class decorator that makes `open_source` ask a reader.

    Raises:
        ValueError: Another reader has the same name.
    """
    known = _READERS.get(cls.name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise ValueError(f"two readers are named {cls.name!r}")
    _READERS[cls.name] = cls
    return cls


def list_readers() -> list[type[Reader]]:
    """Returns all readers in the order in which they are asked."""
    # Imported late, as the modules import this one for the decorator.
    for module in _MODULES:
        importlib.import_module(module)
    return sorted(_READERS.values(), key=lambda cls: (-cls.priority, cls.name))


def open_source(path: str | os.PathLike[str]) -> Reader:
    """Finds the reader of a source.

    Args:
        path: A file, folder or archive.

    Returns:
        A new reader; its `read(path)` yields samples.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: No reader recognises it, or it is a broken archive.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    readers = list_readers()
    for reader in readers:
        if reader.recognise(path):
            return reader()
    kinds = "; ".join(reader.name for reader in readers)
    message = f"{path} holds no data of a known kind. Known: {kinds}."
    if path.is_dir() and any(path.glob("*.zip")):
        message += f" It holds zip archives: give those themselves ({path / '*.zip'})."
    else:
        message += (
            " Give the folder or zip archive as it was downloaded; other archives (.alz, .rar, "
            ".7z) must be unpacked first."
        )
    raise ValueError(message)
