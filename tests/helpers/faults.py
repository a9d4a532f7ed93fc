"""The n-th call of the system fails, as on a full or failing disk: for every n."""

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
from safetensors import SafetensorError

from hccr_tf.models import weights

CALLS = ("open", "write", "fsync", "rename")


class Faults:
    """Counts calls of one kind on files below a folder, and fails the n-th.

    `happened` tells whether there were so many. Libraries that write by themselves are failed where
    the package calls them: an HDF5 array's rows, and a whole file of weights.
    """

    def __init__(self, folder: Path, call: str, number: int):
        self.folder, self.call, self.left = str(folder), call, number

    @property
    def happened(self) -> bool:
        return self.left < 1

    def note(self, call: str, path: Any) -> None:
        if call != self.call or not os.fspath(path).startswith(self.folder):
            return
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))


class _Raw(io.FileIO):
    faults: Faults

    def write(self, data: Any) -> int:
        self.faults.note("write", str(self.name))
        return super().write(data)


@contextlib.contextmanager
def failing(folder: Path, call: str, number: int) -> Iterator[Faults]:
    """Fails the n-th call, "open" for writing, "write", "fsync" or "rename", below a folder."""
    faults, real = Faults(folder, call, number), builtins.open

    def open_file(
        path: Any, mode: str = "r", buffering: int = -1, *text: Any, **options: Any
    ) -> Any:
        if isinstance(path, int) or not set(mode) & set("wax+"):
            return real(path, mode, buffering, *text, **options)
        faults.note("open", path)
        raw = _Raw(path, mode.replace("b", "").replace("t", ""))
        raw.faults = faults
        if buffering == 0:
            return raw
        stream = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return stream if "b" in mode else io.TextIOWrapper(stream, *text, **options)

    def noting(call: str, function: Any) -> Any:
        def called(path: Any, *others: Any, **options: Any) -> Any:
            number = path.fileno() if hasattr(path, "fileno") else path
            open_at = isinstance(number, int)
            faults.note(call, os.readlink(f"/proc/self/fd/{number}") if open_at else path)
            return function(path, *others, **options)

        return called

    def save_file(arrays: Any, path: Any, *others: Any) -> None:
        try:
            faults.note("write", path)
        except OSError as error:
            raise SafetensorError(str(error)) from error
        real_save(arrays, path, *others)

    def set_rows(array: Any, rows: Any, values: Any) -> None:
        faults.note("write", array.file.filename)
        real_set(array, rows, values)

    real_save, real_set = weights.save_file, h5py.Dataset.__setitem__
    with pytest.MonkeyPatch.context() as patch:
        for module in (builtins, io):
            patch.setattr(module, "open", open_file)
        patch.setattr(os, "fsync", noting("fsync", os.fsync))
        for name in ("rename", "replace"):
            patch.setattr(os, name, noting("rename", getattr(os, name)))
        patch.setattr(weights, "save_file", save_file)
        patch.setattr(h5py.Dataset, "__setitem__", set_rows)
        yield faults


def every_fault(folder: Path, most: int = 500) -> Iterator[tuple[str, int, Any]]:
    """Yields a context manager for each call there is, until one of a kind doesn't happen.

    Whoever goes on sets `happened` by using it once.
    """
    for call in CALLS:
        for number in range(1, most):
            used: list[Faults] = []

            @contextlib.contextmanager
            def fault(
                call: str = call, number: int = number, used: list = used
            ) -> Iterator[Faults]:
                with failing(folder, call, number) as faults:
                    used.append(faults)
                    yield faults

            yield call, number, fault
            if not used[0].happened:
                break
