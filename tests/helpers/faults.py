"""The n-th call of the system fails, as on a full or failing disk or memory: for every n."""

import builtins
import contextlib
import ctypes
import errno
import io
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import cv2
import h5py
import pytest
from PIL import Image
from safetensors import SafetensorError

from hccr_tf.models import weights
from hccr_tf.utils.errors import HccrError

CALLS = ("open", "write", "fsync", "rename", "allocation")
FAILURES = (OSError, HccrError, MemoryError)
_LARGE = 256  # bytes: smaller arrays are of no image


class Faults:
    """Counts calls of one kind on files below a folder, and fails the n-th.

    `happened` tells whether there were so many. Libraries that write by themselves are failed where
    the package calls them: an HDF5 array's rows, and a whole file of weights. Allocations are those
    of NumPy's arrays and Pillow's new images, of 256 bytes or more, in the thread of the test.
    Those of OpenCV's results don't fail: OpenCV 5.0 then ends the process, as a kill does.
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

    def allocate(self, size: int) -> None:
        """Notes that an array or image of so many bytes is about to be made."""
        if self.call == "allocation" and size >= _LARGE:
            self.left -= 1
            if self.left == 0:
                raise MemoryError(f"{size} bytes for an array")


_NEW = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_NEW_ZEROS = ctypes.PYFUNCTYPE(*(ctypes.c_void_p,) * 2, *(ctypes.c_size_t,) * 2)


class _Allocator(ctypes.Structure):
    """NumPy's PyDataMem_Handler, https://numpy.org/doc/stable/reference/c-api/data_memory.html."""

    _fields_ = (
        *(("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("ctx", ctypes.c_void_p)),
        *(("malloc", _NEW), ("calloc", _NEW_ZEROS)),
        *(("realloc", ctypes.c_void_p), ("free", ctypes.c_void_p)),
    )


def _function(index: int, *arguments: Any) -> Any:
    """Returns a function of NumPy's C interface that gives an object."""
    table = _pointer(import_module("numpy._core._multiarray_umath")._ARRAY_API, None)
    address = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[index]
    return ctypes.PYFUNCTYPE(ctypes.py_object, *arguments)(address)


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype = ctypes.py_object
_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_set_handler, _get_handler = _function(304, ctypes.py_object), _function(305)
_noted: list[Faults] = []  # of this thread: NumPy's handlers are a thread's


def _is_to_be_had(size: int) -> bool:
    try:
        for faults in _noted:
            faults.allocate(size)
    except MemoryError:
        return False
    return True


def _noting_allocator() -> Any:
    """NumPy's own allocator, but for arrays that aren't to be had; what it gives, it frees."""
    default = _Allocator.from_address(_pointer(_get_handler(), b"mem_handler"))
    own = _Allocator.from_buffer_copy(default)

    def malloc(ctx: int, size: int) -> int | None:
        return default.malloc(ctx, size) if _is_to_be_had(size) else None

    def calloc(ctx: int, number: int, size: int) -> int | None:
        return default.calloc(ctx, number, size) if _is_to_be_had(number * size) else None

    own.malloc, own.calloc = _NEW(malloc), _NEW_ZEROS(calloc)
    return own, _capsule(ctypes.addressof(own), b"mem_handler", None)


_ALLOCATOR, _HANDLER = _noting_allocator()  # arrays may outlive a test


def _unnoted(function: Any) -> Any:
    def called(*arguments: Any, **options: Any) -> Any:
        kept = _noted.copy()
        _noted.clear()
        try:
            return function(*arguments, **options)
        finally:
            _noted.extend(kept)

    return called


@contextlib.contextmanager
def arrays_noted(faults: Faults) -> Iterator[None]:
    """Has NumPy ask before it makes an array's memory."""
    before = _set_handler(_HANDLER)
    _noted.append(faults)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, function in list(vars(cv2).items()):
                if isinstance(function, BuiltinFunctionType):
                    patch.setattr(cv2, name, _unnoted(function))
            yield
    finally:
        _noted.clear()
        _set_handler(before)


class _Raw(io.FileIO):
    faults: Faults

    def write(self, data: Any) -> int:
        self.faults.note("write", str(self.name))
        return super().write(data)


@contextlib.contextmanager
def failing(folder: Path, call: str, number: int) -> Iterator[Faults]:
    """Fails the n-th call: for writing below a folder, or "allocation"."""
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

    def image(make: Any) -> Any:
        def made(mode: str, size: tuple[int, int], *colour: Any) -> Any:
            faults.allocate(size[0] * size[1])
            return make(mode, size, *colour)

        return made

    noted = arrays_noted(faults) if call == "allocation" else contextlib.nullcontext()
    real_save, real_set = weights.save_file, h5py.Dataset.__setitem__
    with pytest.MonkeyPatch.context() as patch, noted:
        for name in ("new", "fill"):
            patch.setattr(Image.core, name, image(getattr(Image.core, name)))
        for module in (builtins, io):
            patch.setattr(module, "open", open_file)
        patch.setattr(os, "fsync", noting("fsync", os.fsync))
        for name in ("rename", "replace"):
            patch.setattr(os, name, noting("rename", getattr(os, name)))
        patch.setattr(weights, "save_file", save_file)
        patch.setattr(h5py.Dataset, "__setitem__", set_rows)
        yield faults


def every_fault(folder: Path, most: int = 100_000) -> Iterator[tuple[str, int, Any]]:
    """Yields a context manager for each call there is, until one of a kind doesn't happen.

    Of allocations, which are many, each of the first ten fails, and then every number that's a
    tenth higher. Whoever goes on sets `happened` by using it once.
    """
    for call in CALLS:
        number = 1
        while number < most:
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
            number += 1 + (number // 10 if call == "allocation" else 0)
