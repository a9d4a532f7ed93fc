"""What files must hold, checked once, when they're opened: JSON, NumPy, HDF5 and CSV.

A schema of JSON is a type, such as `list[str]`, `dict[str, int]`, `float | None`, a `Literal` or a
number that's `Annotated` with `between`; a dataclass; a dict of schemas by name, of which those
that end in "?" may be missing; or a list of one. Objects may hold more. Numbers are finite,
integers of 64 bits.
"""

import contextlib
import functools
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from hccr_tf.utils.errors import HccrError

AGAIN = "take an intact copy, or make it again"
_SHOWN = 60  # characters of what stands in a file
_MOST_PACKED = 1100  # bytes that deflate can make of one


@dataclass(frozen=True)
class Rule:
    """What holds of a value, and the same in words."""

    holds: Callable[[Any], Any]
    name: str


def between(least: float, most: float) -> Rule:
    """Returns the rule of a number's range, for `Annotated`."""
    return Rule(lambda value: least <= value <= most, f"a number from {least:g} to {most:g}")


_PLAIN = {
    float: Rule(lambda v: type(v) in (int, float) and -1e300 < v < 1e300, "a finite number"),
    int: Rule(lambda v: type(v) is int and -(2**63) <= v < 2**63, "a whole number"),
    str: Rule(lambda v: isinstance(v, str), "a text"),
    bool: Rule(lambda v: isinstance(v, bool), "true or false"),
}
_OBJECT = Rule(lambda v: isinstance(v, dict), "an object")
_LIST = Rule(lambda v: isinstance(v, list | tuple), "a list")
Count = Annotated[int, between(0, 2**53)]
Share = Annotated[float, between(0, 1)]
Sha256 = Annotated[str, Rule(re.compile("[0-9a-f]{64}").fullmatch, "a SHA-256 in hexadecimal")]
_NAME = re.compile(r"(?!\.\.?$)[^/\\:\0]+")
FileName = Annotated[str, Rule(_NAME.fullmatch, "the name of a file beside it")]


@functools.cache
def _fields(described: type) -> dict[str, Any]:
    """Returns the schema of a dataclass."""
    hints, fresh = get_type_hints(described), (MISSING, MISSING)
    needed = {f.name for f in fields(described) if (f.default, f.default_factory) == fresh}
    return {name if name in needed else f"{name}?": hint for name, hint in hints.items()}


def check(value: Any, kind: Any, source: Any, remedy: str = AGAIN, field: str = "") -> None:
    """Checks what a file, `source`, holds, or a `field` of it, as JSON gives it.

    Raises:
        HccrError: It isn't of that kind; the message has file, field, value and remedy.
    """

    def require(rule: Rule) -> None:
        if not rule.holds(value):
            shown = repr(value)
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
            place = f"{source}: {field or 'its content'}"
            raise HccrError(f"{place} is {shown}, not {rule.name}; {remedy}")

    def check_part(part: Any, name: Any, part_kind: Any) -> None:
        check(part, part_kind, source, remedy, f"{field}.{name}" if field else str(name))

    if kind is Any or (isinstance(kind, type) and kind not in _PLAIN and isinstance(value, kind)):
        return
    if isinstance(kind, type) and is_dataclass(kind):
        kind = _fields(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and kind in _PLAIN:
        require(_PLAIN[kind])
    elif origin is Annotated:
        check(value, parts[0], source, remedy, field)
        require(parts[1])
    elif origin is Literal:
        require(Rule(lambda v: isinstance(v, str) and v in parts, f"one of {', '.join(parts)}"))
    elif origin is Union or origin is UnionType:
        if value is None and NoneType in parts:
            return
        *others, last = (part for part in parts if part is not NoneType)
        for other in others:
            with contextlib.suppress(HccrError):
                return check(value, other, source, remedy, field)
        check(value, last, source, remedy, field)
    elif isinstance(kind, dict):
        require(_OBJECT)
        for name, part in kind.items():
            if (key := name.removesuffix("?")) in value:
                check_part(value[key], key, part)
            elif key == name:
                raise HccrError(f"{source} lacks {f'{field}.' if field else ''}{name}; {remedy}")
    elif origin is not None and issubclass(origin, Mapping):
        require(_OBJECT)
        for name, part in value.items():
            check_part(name, "name", parts[0])
            check_part(part, name, parts[1])
    else:
        require(_LIST)
        for i, part in enumerate(value):
            check_part(part, i, kind[0] if isinstance(kind, list) else parts[0])


def parse_json(text: bytes | str, source: Any, kind: Any = Any, remedy: str = AGAIN) -> Any:
    """Reads JSON in UTF-8 of a kind, see `check`; HccrError names source, field and remedy."""
    try:
        text = text if isinstance(text, str) else text.decode("utf-8")
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HccrError(f"{source} is not valid JSON in UTF-8 ({error}); {remedy}") from error
    check(value, kind, source, remedy)
    return value


@contextlib.contextmanager
def decoding(source: Any, remedy: str = AGAIN) -> Iterator[None]:
    """Raises HccrError in place of whatever a library raises at bytes that it can't decode.

    Libraries raise nearly anything then, and what exactly changes with their versions. Errors of
    the system, such as a file that isn't there, stay what they are.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, HccrError) or (isinstance(error, OSError) and error.errno):
            raise
        reason = str(error).strip() or type(error).__name__
        raise HccrError(
            f"{source} is damaged or of another kind ({reason[:200]}); {remedy}"
        ) from error


def read_array(
    path: Path, kind: Any, *columns: int, remedy: str = AGAIN, length: int | None = None
) -> np.ndarray:
    """Maps an `.npy` file of one array, of shape (rows, *columns), into the memory.

    Raises:
        HccrError: It's damaged, of another type or shape, or hasn't `length` rows.
    """
    with decoding(path, remedy):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    wanted = f"{np.dtype(kind)} {(length or 'rows', *columns)}"
    found = f"{array.dtype} {array.shape}" if isinstance(array, np.memmap) else "an archive"
    fits = found != "an archive" and array.dtype == kind and array.ndim == 1 + len(columns)
    if not fits or array.shape[1:] != columns or length not in (None, len(array)):
        raise HccrError(f"{path} holds {found}, not {wanted}; {remedy}")
    return array.view(np.ndarray)


def check_range(array: np.ndarray, least: Any, most: Any, source: Any, remedy: str = AGAIN) -> None:
    """Raises HccrError, which names the first row, where numbers aren't `least` to `most`."""
    bad = ~((array >= least) & (array <= most))
    if bad.any():
        row = int(bad.reshape(len(bad), -1).any(axis=1).argmax())
        raise HccrError(
            f"{source}: row {row} is {array[row]}, outside of {least} to "
            f"{most if np.ndim(most) == 0 else most[row]}; {remedy}"
        )


def read_table(
    path: Path, columns: Collection[str] = (), remedy: str = AGAIN, **options: Any
) -> Any:
    """Reads a CSV file as a pandas DataFrame that has at least some columns; see `read_csv`."""
    import pandas as pd

    with decoding(path, remedy):
        table = pd.read_csv(path, **options)
    if missing := sorted(set(columns) - set(table)):
        raise HccrError(f"{path} lacks the columns {', '.join(missing)}; {remedy}")
    return table


@contextlib.contextmanager
def open_hdf5(
    path: str | os.PathLike[str], arrays: Collection[str] = (), remedy: str = AGAIN
) -> Iterator[Any]:
    """Opens an HDF5 file whose arrays all lie in it, some by name, as a context manager.

    Raises:
        HccrError: It's damaged, lacks some of `arrays`, or holds links, arrays stored elsewhere or
            claiming more than is stored, or arrays of variable length, which would be read through
            pointers. Attributes of variable length are the caller's to leave alone.
    """
    with decoding(path, remedy):
        import h5py

        file = h5py.File(path, "r")
    with file:
        found: list[tuple[str, Any]] = []
        with decoding(path, remedy):
            file.visititems_links(lambda *link: found.append(link))  # follows none
            file.visititems(lambda *item: found.append(item))
            faults = {name: _fault(item, os.path.getsize(path)) for name, item in found}
        for name, fault in faults.items():
            if fault:
                raise HccrError(f"{path}: {name} {fault}, which isn't read here; {remedy}")
        if missing := [n for n in arrays if not isinstance(dict(found).get(n), h5py.Dataset)]:
            raise HccrError(f"{path} lacks the arrays {', '.join(missing)}; {remedy}")
        yield file


def _fault(item: Any, size: int) -> str | None:
    """Says why an object or link of an HDF5 file of so many bytes isn't read; None if it is."""
    import h5py

    if isinstance(item, h5py.SoftLink | h5py.ExternalLink):
        return "is a link"
    if not isinstance(item, h5py.Dataset):
        return None
    if item.dtype.hasobject:
        return "is of variable length"
    if item.external or item.is_virtual:
        return "is stored in other files"
    stored, num_bytes = (
        item.id.get_storage_size(),
        math.prod(item.shape or ()) * item.dtype.itemsize,
    )
    end = 0 if item.chunks else (item.id.get_offset() or 0) + num_bytes
    if num_bytes > stored * (_MOST_PACKED if item.chunks else 1) or end > size:
        return f"claims {num_bytes:,} bytes and has {stored:,}"
    return None
