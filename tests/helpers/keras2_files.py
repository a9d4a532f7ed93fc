"""Weights files in the structure that Keras 2 gave them."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import keras
import numpy as np


def write_keras2(
    path: Path | str,
    named: Mapping[str, keras.layers.Layer],
    whole: bool = False,
    chunked: bool = False,
    kind: str | np.dtype = "S99",
) -> Path:
    """Writes layers by name as `save_weights` did, or, if `whole`, as `model.save`.

    Names are texts of a `kind`: of fixed length, or, as `tf_keras` writes them, of any.
    """
    with h5py.File(path, "w") as file:
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.0"
        group = file
        if whole:
            file.attrs["model_config"] = b'{"class_name": "Model"}'
            group = file.create_group("model_weights")
            file.create_group("optimizer_weights").create_dataset("decay:0", data=0.0)
        for name, layer in named.items():
            own = group.create_group(name)
            parts = ["W" if "global_weighted" in name else v.name for v in layer.weights]
            weights = [f"{name}/{part}:0" for part in parts]
            for weight, variable in zip(weights, layer.weights, strict=True):
                own[weight] = np.asarray(variable)
            own.attrs["weight_names"] = np.array([w.encode() for w in weights], kind)
        names = np.array([name.encode() for name in named], kind)
        if chunked:
            group.attrs["layer_names0"], group.attrs["layer_names1"] = np.array_split(names, 2)
        else:
            group.attrs["layer_names"] = names
    return Path(path)
