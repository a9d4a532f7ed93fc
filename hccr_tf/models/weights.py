"""Weights on disk: named arrays (safetensors) with a checksum, and nothing that runs.

A file holds groups of arrays (the model's, an optimiser's) keyed by the variables' paths, such as
"model/conv1/kernel", and a few plain attributes.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write
from hccr_tf.utils.schema import Sha256, decoding, parse_json

_KEY = "hccr_tf"
_HEADER = {"attributes": str, "sha256": Sha256}
SCALE = ":scale"  # a packed file has kernels in eight bits, each with an array of scales
_SEED = re.compile(r"^seed_generator(_\d+)?/")

Variables = Iterable[keras.Variable] | Mapping[str, Any]


class WeightsError(HccrError):
    """A weights file that is damaged or doesn't fit."""


def save_weights(
    path: Path, groups: Mapping[str, Variables], attributes: Mapping[str, Any]
) -> None:
    """Writes groups of variables atomically, with some plain values beside them.

    Within a group paths must differ, or else variables, or arrays, are given by name.

    Raises:
        OSError: the file can't be written; an earlier one is intact.
    """
    arrays = {
        f"{group}/{name}": np.require(values(variable), requirements="C")
        for group, variables in groups.items()
        for name, variable in _by_name(variables).items()
    }
    header = {"attributes": json.dumps(dict(attributes), ensure_ascii=False)}
    header["sha256"] = _checksum(header["attributes"], arrays, arrays.__getitem__)
    with atomic_write(path) as temporary:
        try:
            temporary.touch()
            mode = temporary.stat().st_mode  # as of any other file; the library's is the owner's
            save_file(arrays, temporary, {_KEY: json.dumps(header)})
            temporary.chmod(mode)
        except SafetensorError as error:
            raise OSError(
                f"{error}; {path} was not written, and an earlier one is as it was. Free some "
                "space, and the same command goes on"
            ) from error


def values(variable: Any) -> np.ndarray:
    """Returns a variable's values."""
    # By way of a tensor: NumPy 2 warns of TensorFlow variables.
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable))


def read_attributes(path: Path) -> dict[str, Any]:
    """Returns the attributes of a weights file, without its arrays."""
    with _open(path) as (_, header):
        return parse_json(header["attributes"], path, dict[str, Any])


def read_checksum(path: Path) -> str:
    """Returns the SHA-256 that a weights file was written with: which weights these are."""
    with _open(path) as (_, header):
        return header["sha256"]


def read_names(path: Path, group: str) -> list[str]:
    """Returns the names of the arrays in a group of a weights file, sorted."""
    with _open(path) as (file, _):
        return sorted(_shapes(file, group))


def load_weights(
    path: Path,
    group: str,
    variables: Variables,
    *,
    skip: Iterable[str] = (),
    axes: Mapping[str, int] | None = None,
    rows: tuple[Sequence[int], Sequence[int]] = ((), ()),
    verify: bool = True,
) -> None:
    """Assigns a group's arrays to variables of the same path and shape.

    Arrays that no variable asks for are left alone: a prediction model reads its part of a file
    that holds the auxiliary heads too. Variables to `skip`, by name, keep their values; of those
    in `axes` (a classifier with other classes) only `rows` along the axis are filled: positions
    in the variable, and as many in the file's array.

    Raises:
        WeightsError: unreadable or damaged file (its checksum is checked to `verify` it), or a
            variable it doesn't hold in the right shape. Nothing is assigned then.
    """
    axes, skipped = axes or {}, set(skip)
    wanted = {name: v for name, v in _by_name(variables).items() if name not in skipped}
    with _open(path) as (file, header):
        if verify:
            with decoding(path):
                checksum = _checksum(header["attributes"], file.keys(), file.get_tensor)
            if checksum != header["sha256"]:
                raise WeightsError(
                    f"{path} is damaged: its checksum differs from the one it was written with."
                )
        _check_shapes(path, _shapes(file, group), wanted, axes)
        arrays = {}
        for name, variable in wanted.items():
            with decoding(path):
                array = file.get_tensor(f"{group}/{name}")
                if array.dtype == np.int8:
                    array = array * file.get_tensor(f"{group}/{name}{SCALE}")
                if group == "model" and not np.isfinite(array).all():
                    raise WeightsError(f"{path} holds numbers in {name} that aren't finite.")
                if name in axes:
                    stored, array = array, values(variable).copy()
                    some, stored = (np.moveaxis(a, axes[name], 0) for a in (array, stored))
                    some[list(rows[0])] = stored[list(rows[1])]
            arrays[name] = array
        for name, array in arrays.items():
            wanted[name].assign(array)


def check_fit(path: Path, group: str, variables: Variables) -> None:
    """Raises WeightsError where `load_weights` would: of networks without values too."""
    with _open(path) as (file, _):
        _check_shapes(path, _shapes(file, group), _by_name(variables), {})


def _check_shapes(path: Path, shapes: Mapping, wanted: Mapping, axes: Mapping[str, int]) -> None:
    problems = []
    for name, variable in wanted.items():
        shape, axis = list(shapes.get(name, ())), axes.get(name)
        if axis is not None and axis < len(shape):
            shape[axis] = variable.shape[axis]
        if name not in shapes:
            problems.append(f"{name} is missing")
        elif tuple(shape) != tuple(variable.shape):
            problems.append(f"{name} is {shapes[name]}, not {tuple(variable.shape)}")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{path} doesn't fit this model: {'; '.join(problems[:3])}{more}. Build the "
            "model with the arguments the file was trained with."
        )


def _shapes(file: Any, group: str) -> dict[str, tuple[int, ...]]:
    start = f"{group}/"
    names = [name for name in file.keys() if name.startswith(start)]  # noqa: SIM118
    return {n.removeprefix(start): tuple(file.get_slice(n).get_shape()) for n in names}


def _by_name(variables: Variables) -> Mapping[str, Any]:
    if isinstance(variables, Mapping):
        return variables
    named: dict[str, keras.Variable] = {}
    seeds = 0
    variable: keras.Variable
    for variable in variables:
        # Keras numbers the seeds of dropout on within a process: here each model's begin at 0.
        name, is_seed = _SEED.subn(f"seed_generator_{seeds}/", variable.path)
        seeds += is_seed
        if name in named:
            raise WeightsError(f"Two variables are called {name!r}; give their layers names.")
        named[name] = variable
    return named


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Yields an open file, and its attributes as JSON with their checksum."""
    if not path.is_file():
        old = path.with_suffix(".weights.h5")
        more = f" {old.name} is of an earlier version; train the run anew." if old.exists() else ""
        raise WeightsError(f"There is no weights file {path}.{more}")
    with decoding(path):
        opened = safe_open(path, "np")
    with opened as file:
        if _KEY not in (file.metadata() or {}):
            raise WeightsError(f"{path} wasn't written by this package.")
        yield file, parse_json(file.metadata()[_KEY], path, _HEADER)


def _checksum(attributes: str, names: Iterable[str], read: Callable[[str], np.ndarray]) -> str:
    digest = hashlib.sha256(attributes.encode())
    for name in sorted(names):
        array = read(name)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes() if array.ndim == 0 else array.data.cast("B"))
    return digest.hexdigest()
