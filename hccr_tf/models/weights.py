"""Weights on disk: named arrays in HDF5, with a checksum, and nothing that runs.

A file holds groups of arrays (the model's, an optimiser's) keyed by the variables'
paths, and a few plain attributes. Shapes are compared before anything is read, so a
damaged or hostile file can't ask for memory the model doesn't have.
"""

import contextlib
import errno
import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write

_FORMAT = 1
_SEED = re.compile(r"seed_generator(?:_(\d+))?/")


class WeightsError(HccrError):
    """A weights file that is damaged or doesn't fit."""


def save_weights(
    path: Path,
    groups: Mapping[str, Iterable[keras.Variable]],
    attributes: Mapping[str, Any],
    arrays: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> None:
    """Writes variables atomically.

    Args:
        path: HDF5 file to write.
        groups: variables by group name; their paths must differ within a group.
        attributes: JSON values kept beside them.
        arrays: further groups, of arrays by name.

    Raises:
        OSError: the file can't be written; an earlier one is intact.
    """
    with atomic_write(path) as temporary:
        try:
            _write(temporary, groups, attributes, arrays or {})
        except (OSError, RuntimeError) as error:
            # HDF5 tells of a full disk in words only, and as either of these.
            full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
            if not full:
                raise
            raise OSError(
                errno.ENOSPC,
                f"the disk is full; {path} was not written, and an earlier one is as it was. Free "
                "some space, and the same command goes on",
            ) from error


def _write(path: Path, groups, attributes, arrays) -> None:
    named = {group: _by_path(variables) for group, variables in groups.items()}
    # At least so many: nearly all variables have four bytes a value.
    sizes = [math.prod(v.shape) for variables in named.values() for v in variables.values()]
    num_bytes = 4 * sum(sizes)
    if shutil.disk_usage(path.parent).free < num_bytes:
        # Before HDF5 meets it, which then can't close its file in good order.
        raise OSError(errno.ENOSPC, "No space left on device")
    with h5py.File(path, "w") as file:
        for group, variables in named.items():
            for name, variable in variables.items():
                # By way of a tensor: NumPy 2 warns of TensorFlow variables.
                tensor = keras.ops.convert_to_tensor(variable)
                file[f"{group}/{name}"] = keras.ops.convert_to_numpy(tensor)
        for group, values in arrays.items():
            for name, array in values.items():
                file[f"{group}/{name}"] = array
        file.attrs["format"] = _FORMAT
        file.attrs["attributes"] = json.dumps(dict(attributes), ensure_ascii=False)
        file.attrs["sha256"] = _checksum(file)


def read_attributes(path: Path) -> dict[str, Any]:
    """The attributes of a weights file, without its arrays."""
    with _open(path) as file:
        return json.loads(file.attrs["attributes"])


def read_checksum(path: Path) -> str:
    """The SHA-256 that a weights file was written with: which weights these are."""
    with _open(path) as file:
        return str(file.attrs["sha256"])


def read_names(path: Path, group: str) -> list[str]:
    """Names of the arrays directly in a group of a weights file, sorted."""
    with _open(path) as file:
        return sorted(file[group]) if group in file else []


def load_weights(
    path: Path,
    group: str,
    variables: Iterable[keras.Variable] | Mapping[str, keras.Variable],
    *,
    skip: Iterable[str] = (),
    verify: bool = True,
) -> None:
    """Assigns a group's arrays to variables of the same path and shape.

    Arrays that no variable asks for are left alone: a prediction model reads its part of
    a file that holds the auxiliary heads too.

    Args:
        path: file written by `save_weights`.
        group: which group to read.
        variables: variables to fill, by their paths; or by other names, as a mapping.
        skip: names of variables that keep their values (a replaced classifier).
        verify: whether to check the file's checksum first.

    Raises:
        WeightsError: unreadable or damaged file, or a variable it doesn't hold in the
            right shape. Nothing is assigned then.
    """
    skipped = set(skip)
    with _open(path) as file:
        if verify and _checksum(file) != file.attrs.get("sha256"):
            raise WeightsError(
                f"{path} is damaged: its checksum differs from the one it was written with."
            )
        stored = file.get(group)
        wanted = {
            name: variable
            for name, variable in (
                variables if isinstance(variables, Mapping) else _by_path(variables)
            ).items()
            if name not in skipped
        }
        problems = []
        for name, variable in wanted.items():
            item = stored.get(name) if stored is not None else None
            if not isinstance(item, h5py.Dataset):
                problems.append(f"{name} is missing")
            elif item.shape != tuple(variable.shape):
                problems.append(f"{name} is {item.shape}, not {tuple(variable.shape)}")
        if problems:
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise WeightsError(
                f"{path} doesn't fit this model: {'; '.join(problems[:3])}{more}. Build the "
                "model with the arguments the file was trained with."
            )
        for name, variable in wanted.items():
            variable.assign(stored[name][()])


def load_rows(
    path: Path,
    group: str,
    variables: Iterable[keras.Variable],
    axes: Mapping[str, int],
    rows: Sequence[int],
    stored_rows: Sequence[int],
) -> None:
    """Assigns some rows of a group's arrays to rows of variables; the others keep their values.

    Args:
        path: file written by `save_weights`.
        group: which group to read.
        variables: those of `axes` among them are filled.
        axes: which axis has the rows, by the variable's path.
        rows: places in the variables.
        stored_rows: as many places in the file's arrays.

    Raises:
        WeightsError: unreadable file, or arrays that differ in another axis. Nothing is assigned
            then.
    """
    named = _by_path(variables)
    filled = {}
    with _open(path) as file:
        stored = file.get(group)
        for name, axis in axes.items():
            item = stored.get(name) if stored is not None else None
            values = keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(named[name])).copy()
            others = [n for i, n in enumerate(values.shape) if i != axis]
            if not isinstance(item, h5py.Dataset) or others != [
                n for i, n in enumerate(item.shape) if i != axis
            ]:
                raise WeightsError(f"{path} has no {name} that fits this model.")
            taken = np.take(item[()], np.asarray(stored_rows), axis=axis)
            place: list[Any] = [slice(None)] * values.ndim
            place[axis] = np.asarray(rows)
            values[tuple(place)] = taken
            filled[name] = values
    for name, values in filled.items():
        named[name].assign(values)


def _by_path(variables: Iterable[keras.Variable]) -> dict[str, keras.Variable]:
    variables = list(variables)
    # Keras numbers the seeds of dropout on within a process; counted from 0, a model made
    # second has the names of one made first.
    seeds = sorted({_seed_number(v.path) for v in variables} - {None})
    named: dict[str, keras.Variable] = {}
    for variable in variables:
        name, number = variable.path, _seed_number(variable.path)
        if number is not None:
            place = seeds.index(number)
            name = _SEED.sub(f"seed_generator_{place}/" if place else "seed_generator/", name)
        if name in named:
            raise WeightsError(f"Two variables are called {name!r}; give their layers names.")
        named[name] = variable
    return named


def _seed_number(path: str) -> int | None:
    match = _SEED.match(path)
    return int(match[1] or 0) if match else None


@contextlib.contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != _FORMAT:
                raise WeightsError(
                    f"{path} wasn't written by this package, or by a newer version of it."
                )
            yield file
    except FileNotFoundError:
        raise WeightsError(f"There is no weights file {path}.") from None
    except WeightsError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        # HDF5 reports damage of its own structures as any of these.
        raise WeightsError(f"{path} is damaged or no HDF5 file: {error}") from error


def _checksum(file: h5py.File) -> str:
    """SHA-256 over the attributes and all arrays by name."""
    digest = hashlib.sha256(str(file.attrs["attributes"]).encode())
    num_bytes = file.id.get_filesize()

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            # An array that isn't there byte for byte, as `save_weights` writes it, could
            # claim any size.
            if item.nbytes > num_bytes or item.id.get_storage_size() != item.nbytes:
                raise WeightsError(f"{file.filename} is damaged: {name} isn't stored in full.")
            array = np.ascontiguousarray(item[()])
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes() if array.ndim == 0 else memoryview(array).cast("B"))

    file.visititems(add)
    return digest.hexdigest()
