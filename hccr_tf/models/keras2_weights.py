"""Weights of Keras 2's HDF5 files, read as arrays in order; nothing in them is run.

Such a file numbers its layers on through the process that made it (`conv2d_17`), so names mean
nothing: arrays are matched to a network's variables by order and shape. Models saved whole
(`model.save`) and weights alone (`save_weights`) are read alike; the model's description and the
optimiser's state in the former are left alone.
"""

import math
from pathlib import Path

import h5py
import keras
import numpy as np

from hccr_tf.models.weights import WeightsError


def read_keras2_weights(path: str | Path) -> list[tuple[str, np.ndarray]]:
    """All weights of a Keras 2 HDF5 file, in the order of its layers.

    Returns:
        (name in the file, array) of every weight.

    Raises:
        WeightsError: no such file, or none of Keras 2; a weight that's missing, lies in
            another file, isn't of finite numbers, or isn't stored in full.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.")
    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            if "layer_names" not in group.attrs and "layer_names0" not in group.attrs:
                raise WeightsError(
                    f"{path} is no weights file of Keras 2: it has no layer_names. Files of this "
                    "package are read by --init-from."
                )
            found = []
            for layer in _texts(group, "layer_names"):
                own = _inside(group, layer, path)
                for name in _texts(own, "weight_names"):
                    found.append((f"{layer}/{name}", _array(_inside(own, name, path), path, name)))
    except WeightsError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or no HDF5 file: {error}") from error
    if not found:
        raise WeightsError(f"{path} holds no weights.")
    return found


def load_keras2_weights(path: str | Path, model: keras.Model) -> None:
    """Assigns a Keras 2 file's weights to a network, by order and shape.

    Raises:
        WeightsError: as `read_keras2_weights`, or the file doesn't fit: another number of
            weights, or one of another shape; nothing is assigned then.
    """
    found = read_keras2_weights(path)
    variables = model.weights
    for number, (variable, (name, array)) in enumerate(zip(variables, found, strict=False)):
        if tuple(variable.shape) != array.shape:
            raise WeightsError(
                f"{path} doesn't fit {model.name}: weight {number + 1} is {name} "
                f"{array.shape}, and {variable.path} {tuple(variable.shape)} is wanted there. "
                + _hint(variable, array)
            )
    if len(variables) != len(found):
        raise WeightsError(
            f"{path} doesn't fit {model.name}: it holds {len(found)} weights, and "
            f"{len(variables)} are wanted. Is it of another network?"
        )
    for variable, (_, array) in zip(variables, found, strict=True):
        variable.assign(array)


def _hint(variable, array) -> str:
    shape = tuple(variable.shape)
    if array.ndim == len(shape) and array.shape[:-1] == shape[:-1]:
        return f"Has the charset as many characters as the file has classes, {array.shape[-1]}?"
    return "Is it of another network, or of another image size?"


def _texts(group: h5py.Group, name: str) -> list[str]:
    """A list of texts in a group's attributes; long ones are spread over name0, name1, …"""
    if name in group.attrs:
        values = list(group.attrs[name])
    else:
        values, number = [], 0
        while f"{name}{number}" in group.attrs:
            values += list(group.attrs[f"{name}{number}"])
            number += 1
    return [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values]


def _inside(group: h5py.Group, name: str, path: Path):
    """An item of a group, by links that stay in the file."""
    item = group
    for part in name.strip("/").split("/"):
        if not isinstance(item, h5py.Group) or not isinstance(
            item.get(part, getlink=True), h5py.HardLink
        ):
            raise WeightsError(f"{path} is damaged: {name} is missing or lies in another file.")
        item = item[part]
    return item


def _array(item, path: Path, name: str) -> np.ndarray:
    # Whole numbers are how many images a normalisation has seen.
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiu":
        raise WeightsError(f"{path} is damaged: {name} is no array of numbers.")
    # An array that isn't there byte for byte could claim any size; Keras doesn't compress.
    if item.id.get_storage_size() != math.prod(item.shape) * item.dtype.itemsize:
        raise WeightsError(f"{path} is damaged: {name} isn't stored in full.")
    array = item[()]
    if not np.isfinite(array).all():
        raise WeightsError(f"{path} is damaged: {name} holds numbers that aren't finite.")
    return array
