"""Outputs and activation maps of every network for given weights, as `test_backends.py` compares.

    KERAS_BACKEND=jax python tests/equal_outputs.py FILE.npz
"""

import sys
import zlib

import keras
import numpy as np

from hccr_tf import create_model, list_models
from hccr_tf.inference.cam import ActivationMapper

SIZE = 32
# The most that this size allows.
ARGUMENTS = {"brick_net": {"num_bricks": 3}}


def values(variable) -> np.ndarray:
    """Values that depend on the variable's name and shape only."""
    rng = np.random.default_rng(zlib.crc32(variable.path.encode()))
    if variable.path.endswith(("moving_variance", "gamma")):
        return rng.uniform(0.5, 1.5, variable.shape)
    fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 100
    return rng.normal(size=variable.shape) / np.sqrt(fan_in)


def main(path: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 1), dtype=np.uint8)
    found = {}
    for name in list_models():
        model = create_model(
            name, num_classes=7, image_shape=(SIZE, SIZE, 1), **ARGUMENTS.get(name, {})
        )
        for variable in model.weights:
            variable.assign(values(variable))
        outputs = model(keras.ops.array(pictures), training=False)
        for output, logits in outputs.items():
            found[f"{name}/{output}"] = keras.ops.convert_to_numpy(logits)
        found[f"{name}/maps"] = ActivationMapper(model)(pictures, [1, 2, 3]).maps
    np.savez(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
