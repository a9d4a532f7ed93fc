"""Outputs and activation maps of every network for given weights, as `test_backends.py` compares.

KERAS_BACKEND=jax python tests/equal_outputs.py FILE.npz
"""

import sys
import zlib

import keras
import numpy as np

from hccr_tf import list_models
from hccr_tf.inference.cam import ActivationMapper
from hccr_tf.models import blueprint, takes_weights

SIZE = 32
# Networks of keras.applications have hundreds of layers, each of which JAX compiles by itself, so
# a small one stands for all.
STANDS_FOR_OTHERS = "applications:MobileNetV3Small"
# The most that this size allows, and a map that isn't a single place.
ARGUMENTS = {"brick_net": {"num_bricks": 3}, STANDS_FOR_OTHERS: {"enlarge": 2}}


def values(variable) -> np.ndarray:
    """Values that depend on the variable's name and shape only."""
    rng = np.random.default_rng(zlib.crc32(variable.path.encode()))
    if variable.path.endswith(("moving_variance", "gamma")):
        return rng.uniform(0.5, 1.5, variable.shape)
    fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 100
    return rng.normal(size=variable.shape) / np.sqrt(fan_in)


def main(path: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 1), dtype=np.uint8)
    found = {}
    names = [name for name in list_models() if not takes_weights(name)]
    for name in [*names, STANDS_FOR_OTHERS]:
        # Initial values, of no use here, would cost more than all the rest.
        model = blueprint(
            name, num_classes=7, image_shape=(SIZE, SIZE, 1), **ARGUMENTS.get(name, {})
        )
        state = [(v, keras.ops.array(values(v), v.dtype)) for v in model.weights]
        with keras.StatelessScope(state_mapping=state, initialize_variables=False):
            outputs = model(keras.ops.array(images), training=False)
            maps = ActivationMapper(model)(images, [1, 2, 3]).maps
        for output, logits in outputs.items():
            found[f"{name}/{output}".replace(":", "-")] = keras.ops.convert_to_numpy(logits)
        found[f"{name}/maps".replace(":", "-")] = maps
    np.savez(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
