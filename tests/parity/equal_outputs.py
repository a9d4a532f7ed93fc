"""Outputs and activation maps of every network for given weights, as the tests beside compare them.

KERAS_BACKEND=jax python tests/parity/equal_outputs.py FILE.npz
"""

import sys
from typing import Any

import cv2
import keras
import numpy as np

from hccr_tf import list_models
from hccr_tf.inference.cam import ActivationMapper
from hccr_tf.inference.predictor import Predictor
from hccr_tf.models import blueprint, takes_weights

SIZE = 32
TEXT = "永和九年岁在癸丑暮春之初会于稽山阴兰亭"
# Networks of keras.applications have hundreds of layers, each of which JAX compiles by itself, so
# a small one stands for all.
STANDS_FOR_OTHERS = "applications:MobileNetV3Small"
# The most that this size allows, and a map that isn't a single place.
ARGUMENTS = {"brick_net": {"num_bricks": 3}, STANDS_FOR_OTHERS: {"enlarge": 2}}


def values(seed: int, variable) -> np.ndarray:
    """Draws values that depend on a variable's place and shape, as the recorded ones were drawn."""
    if "seed" in variable.path:
        return np.zeros(variable.shape)
    rng = np.random.default_rng(seed)
    if variable.path.endswith(("moving_variance", "gamma")):
        return rng.uniform(0.5, 1.5, variable.shape)
    fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 100
    return rng.normal(size=variable.shape) / np.sqrt(fan_in)


def seeds(name: str, settings: dict) -> dict[str, int]:
    """Numbers the variables on the path to the main output; the heads' follow."""
    orders = [
        [
            v.path
            for v in blueprint(name, aux_outputs=aux, **settings).weights
            if "seed" not in v.path
        ]
        for aux in (False, True)
    ]
    return {path: i for i, path in enumerate(dict.fromkeys(sum(orders, [])))}


def network_outputs(name: str, images: np.ndarray) -> dict[str, np.ndarray]:
    settings = {"num_classes": 7, "image_shape": (SIZE, SIZE, 1), **ARGUMENTS.get(name, {})}
    numbers = seeds(name, settings)
    # Initial values, of no use here, would cost more than all the rest.
    model = blueprint(name, **settings)
    state = [
        (v, keras.ops.array(values(numbers.get(v.path, 0), v), v.dtype)) for v in model.weights
    ]
    with keras.StatelessScope(state_mapping=state, initialize_variables=False):
        outputs = model(keras.ops.array(images), training=False)
        maps = ActivationMapper(model)(images, list(range(1, len(images) + 1))).maps
    logits = {key: keras.ops.convert_to_numpy(value) for key, value in outputs.items()}
    return {**logits, "maps": maps}


def recogniser_outputs() -> dict[str, np.ndarray]:
    predictor = Predictor("recogniser")
    drawn = []
    for character in TEXT:
        image = np.full((96, 96), 255, np.uint8)
        cv2.putText(image, character, (16, 72), (0,), cv2.FontFace("uni"), 64, 400)
        drawn.append(image)
    images = predictor.preprocessing.apply_many(drawn)
    return {"recogniser/images": images, "recogniser/logits": predictor.logits(images)}


def main(path: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 1), dtype=np.uint8)
    found: dict[str, Any] = recogniser_outputs()
    names = [name for name in list_models() if not takes_weights(name)]
    for name in [*names, STANDS_FOR_OTHERS]:
        for output, tensor in network_outputs(name, images).items():
            found[f"{name}/{output}".replace(":", "-")] = tensor
    np.savez(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
