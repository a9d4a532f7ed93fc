"""Networks of `keras.applications` with new classifiers, for transfer learning.

Chen, Xiao & Meng 2023, section 3, put EfficientNetV2-S and InceptionV3, both trained on
ImageNet, under classifiers of their own. Grey images become the colour images of the range
that a network was trained on inside the model, and small ones are enlarged there.
"""

import inspect
import math
import random
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from http.client import HTTPException

import keras
import numpy as np
from keras import layers

from hccr_tf.models.abstract import without_values
from hccr_tf.models.keras2_weights import load_keras2_weights
from hccr_tf.models.layers import GreyToColour
from hccr_tf.models.registry import (
    BACKBONE,
    FEATURE_MAP,
    INPUT_SCALING,
    MAIN_OUTPUT,
    POOLING,
    register_family,
    register_model,
)
from hccr_tf.models.weights import WeightsError
from hccr_tf.utils.errors import HccrError, unknown

IMAGENET = "imagenet"
# Sides below which a network can't be built; 32 for all others.
_LEAST_SIDES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
# ImageNet's standard deviations by colour, as shares of 255.
_DEVIATIONS = (0.229, 0.224, 0.225)
# From this side on the last map of InceptionV3 has more than one place.
_LEAST_SEQUENCE_SIDE = 107


@register_family
def applications(
    backbone: str,
    *,
    num_classes: int,
    image_shape: tuple[int, int, int] = (64, 64, 1),
    aux_outputs: bool = True,
    weights: str | None = None,
    units: int = 256,
    dropout: float = 0.2,
    enlarge: int | None = None,
) -> keras.Model:
    """Any network of keras.applications under a classifier of two dense layers.

    `backbone` is a name in `keras.applications`, such as "MobileNetV3Large"; its `weights` are
    "imagenet", fetched by Keras, an HDF5 file of the kind that Keras fetches, without the top, or
    None for fresh ones. `units` are those of the first dense layer, `dropout` the share of its
    outputs that is dropped in training. Images are enlarged first by the whole factor `enlarge`;
    the least that the backbone can take if None.

    Raises:
        HccrError: no such network, or arguments that it can't be built with.
        WeightsError: weights that don't fit, or that can't be fetched.
    """
    least = _LEAST_SIDES.get(backbone, 32)
    inputs, features = _features(backbone, image_shape, weights, enlarge, least)
    x = layers.GlobalAveragePooling2D(name=POOLING)(features)
    x = layers.Dense(units, activation="relu", name="hidden")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(num_classes, dtype="float32", name=MAIN_OUTPUT)(x)
    return keras.Model(inputs, {MAIN_OUTPUT: x}, name=backbone.lower())


# The backbone has 513 layers and 20,331,360 parameters, of which 20,177,488 are trained.
register_model(
    partial(applications, "EfficientNetV2S"),
    "efficientnet_v2s",
    "Chen, Xiao & Meng 2023, section 4.1: EfficientNetV2-S, dense, dropout, dense.",
)


@register_model
def inception_v3_gru(
    *,
    num_classes: int,
    image_shape: tuple[int, int, int] = (299, 299, 1),
    aux_outputs: bool = True,
    weights: str | None = None,
    gru_units: int = 256,
    units: int = 256,
    noise: float = 0.1,
    dropout: float = 0.2,
    noise_at: str = "features",
    enlarge: int | None = None,
) -> keras.Model:
    """Chen, Xiao & Meng 2023, section 4.2: InceptionV3, its last map read by a GRU.

    The map, 8×8×2048 at 299×299, is a sequence of 64 vectors, row by row. The paper adds
    Gaussian noise and dropout "to the input", batch normalisation and two dense layers.

    Noise, of a standard deviation, and dropout, of a share, act in training on the vectors that
    the GRU reads ("features") or on the images, grey levels from -1 to 1 ("images"). The GRU's
    reset gate acts before the product, as the paper's does. `weights`, `units` and `enlarge` are
    as for `applications`, but that the least enlargement leaves the last map more than one place,
    from 107 pixels on.

    Raises:
        HccrError: another place for the noise, or arguments that the network can't be built
            with.
        WeightsError: weights that don't fit, or that can't be fetched.
    """
    if noise_at not in ("features", "images"):
        raise HccrError(f'noise_at is "features" or "images", not {noise_at!r}.')

    def disturb(x):
        x = layers.GaussianNoise(noise, name="noise")(x)
        return layers.Dropout(dropout, name="dropout")(x)

    least, on_images = _LEAST_SEQUENCE_SIDE, disturb if noise_at == "images" else None
    inputs, features = _features("InceptionV3", image_shape, weights, enlarge, least, on_images)
    x = layers.Reshape((-1, features.shape[-1]), name="sequence")(features)
    if on_images is None:
        x = disturb(x)
    # Half-precision states would drift from step to step.
    x = layers.GRU(gru_units, reset_after=False, dtype="float32", name=POOLING)(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Dense(units, activation="relu", name="hidden")(x)
    x = layers.Dense(num_classes, dtype="float32", name=MAIN_OUTPUT)(x)
    return keras.Model(inputs, {MAIN_OUTPUT: x}, name="inception_v3_gru")


def _features(name, image_shape, weights, enlarge, least, disturb=None):
    """Builds the model's input, and the last map of the backbone."""
    names = [known for known, _ in inspect.getmembers(keras.applications, inspect.isfunction)]
    if name not in names:
        raise unknown("network of keras.applications", name, names)
    if enlarge is None:
        enlarge = -(-least // min(image_shape[:2]))
    if enlarge < 1:
        raise HccrError(f"enlarge is at least 1, not {enlarge}.")
    shape = (image_shape[0] * enlarge, image_shape[1] * enlarge, 3)
    backbone = _backbone(name, shape)
    if weights == IMAGENET:
        backbone.set_weights(_fetched(name, shape))
    elif weights is not None:
        try:
            load_keras2_weights(weights, backbone)
        except WeightsError as error:
            raise WeightsError(
                f"{error} The backbone {name} takes a file without the top, whose name ends in "
                "_notop.h5."
            ) from error

    # === Functional Model ===
    inputs = keras.Input(image_shape, dtype="uint8", name="image")
    x = GreyToColour(*_colour_range(name), name=INPUT_SCALING)(inputs)
    if enlarge > 1:
        x = layers.UpSampling2D(enlarge, interpolation="bilinear", name="enlarge")(x)
    if disturb is not None:
        x = disturb(x)
    return inputs, layers.Identity(name=FEATURE_MAP)(backbone(x))


def _backbone(name: str, shape: tuple[int, int, int]) -> keras.Model:
    """Builds a network of `keras.applications` without its top, with fresh weights."""
    template = _template(name, shape, keras.config.dtype_policy().name)

    def copy(layer):
        made = type(layer).from_config(layer.get_config())
        if type(layer).__name__ == "LayerScale":
            # ConvNeXt's factors have no name, and would get another in each build.
            made.add_weight = partial(made.add_weight, name="gamma")
        return made

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        if isinstance(layer, layers.Normalization) and name.startswith("EfficientNetB"):
            # Keras has it only where it fetches the weights, which were trained with it.
            scale = [1 / math.sqrt(deviation) for deviation in _DEVIATIONS]
            outputs = layers.Rescaling(scale, name="rescaling_1")(outputs)
        return outputs

    backbone = keras.models.clone_model(
        template,
        input_tensors=keras.Input(shape, name="colour_image"),
        clone_function=copy,
        call_function=call,
    )
    return keras.Model(backbone.inputs[0], backbone.outputs[0], name=BACKBONE)


@lru_cache(maxsize=4)
def _template(name: str, shape: tuple[int, int, int], dtype_policy: str) -> keras.Model:
    """Builds the network without values; kept, since it takes seconds, for each policy.

    Its layers have the names of a first build in a process, as every thread counts them anew.
    """
    # Initialisers draw their seeds from it; drawn or kept, what follows must get the same ones.
    state = random.getstate()
    try:
        return without_values(lambda: _build(name, shape, None))
    finally:
        random.setstate(state)


def _build(name: str, shape: tuple[int, int, int], weights: str | None) -> keras.Model:
    return getattr(keras.applications, name)(include_top=False, weights=weights, input_shape=shape)


def _fetched(name: str, shape: tuple[int, int, int]) -> list[np.ndarray]:
    try:
        return _build(name, shape, IMAGENET).get_weights()
    except Exception as error:
        # Keras raises plain exceptions where a file can't be fetched.
        if "fetch" not in str(error) and not isinstance(error, OSError | HTTPException):
            raise
        raise WeightsError(
            f"The ImageNet weights of {name} can't be fetched: {error}. Fetch that file where "
            "there's a network and name it in place of imagenet (hccr train --weights FILE, or "
            "weights=FILE in Python). Without it, --weights none (weights=None) trains from "
            "scratch, and --init-from takes another run's weights."
        ) from error


def _colour_range(name: str) -> tuple[list[float], list[float]]:
    """Factors and offsets that turn grey levels into the colours that a network takes."""
    prepare: Callable = sys.modules[getattr(keras.applications, name).__module__].preprocess_input
    # Channel by channel it's a line through two points.
    black, white = (
        prepare(np.full((1, 1, 3), level, np.float32), data_format="channels_last").ravel()
        for level in (0, 255)
    )
    return ((white - black) / 255).tolist(), black.tolist()
