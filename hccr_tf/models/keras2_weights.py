"""Weights of Keras 2's HDF5 files, matched by order and shape; nothing in them is run."""

import tempfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from hccr_tf.models.weights import WeightsError, values
from hccr_tf.utils.schema import open_hdf5


def load_keras2_weights(path: str | Path, model: keras.Model) -> None:
    """Fills a network from a Keras 2 file, or from a whole model that Keras 3 saved as HDF5.

    Such a file numbers its layers on through the process that made it (`conv2d_17`), so names mean
    nothing. Models saved whole (`model.save`) and weights alone (`save_weights`) are read alike.
    The name ends in .h5 or .hdf5, and the network's weights stand in the file's order.

    Raises:
        WeightsError: no such file; damage; another number of weights, or one of another shape.
            The network is of no use then.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.")
    if path.suffix not in (".h5", ".hdf5") or path.name.endswith(".weights.h5"):
        raise WeightsError(
            f"{path} is no weights file of Keras 2: its name ends in .h5 or .hdf5, and not, as "
            "Keras 3's, in .weights.h5. Runs of this package are read by --init-from."
        )
    try:
        with tempfile.TemporaryDirectory() as folder:
            model.load_weights(_plain_copy(path, Path(folder) / path.name))
    except Exception as error:  # Keras raises nearly anything at another file
        raise WeightsError(
            f"{path} is damaged, or doesn't fit {model.name}: {error}. Is it of this network, with "
            "as many classes as the charset has characters, and of this image size?"
        ) from error
    for variable in model.weights:
        if not np.isfinite(values(variable)).all():
            raise WeightsError(f"{path} holds numbers in {variable.path} that aren't finite.")


def _plain_copy(path: Path, copy: Path) -> Path:
    """Copies arrays and the attributes that name them, whose texts may have any length.

    What Keras reads besides is its own version, a text that a damaged file may have it look for
    without end; that of Keras 2 stands in the copy.
    """
    with open_hdf5(path) as source, h5py.File(copy, "w") as target:

        def add(name: str, item: Any) -> None:
            made = target.require_group(name) if isinstance(item, h5py.Group) else None
            if made is None:
                made = target.create_dataset(name, data=item[()])
            for attribute in item.attrs:
                if attribute.startswith(("layer_names", "weight_names")):
                    names = item.attrs[attribute]
                    made.attrs[attribute] = [n.encode() if isinstance(n, str) else n for n in names]

        add("/", source)
        source.visititems(add)
        for group in (target, target.get("model_weights", target)):
            group.attrs["keras_version"], group.attrs["backend"] = b"2.2.4", b"tensorflow"
    return copy
