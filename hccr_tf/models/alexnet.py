"""AlexNet of Krizhevsky, Sutskever & Hinton 2012, with which Kriuk & Kriuk 2024 compare."""

import keras
from keras import layers

from hccr_tf.models.blocks import convolution, image_input
from hccr_tf.models.registry import FEATURE_MAP, MAIN_OUTPUT, POOLING, register_model
from hccr_tf.utils.errors import HccrError

# Kernel, strides, filters, whether a pooling follows.
_CONVOLUTIONS = (
    (11, 4, 96, True),
    (5, 1, 256, True),
    (3, 1, 384, False),
    (3, 1, 384, False),
    (3, 1, 256, True),
)
_TABLE_WIDTH = 96


@register_model
def alexnet(
    *,
    num_classes: int,
    image_shape: tuple[int, int, int] = (256, 256, 1),
    aux_outputs: bool = True,
    width: int = 96,
    units: int = 4096,
    dropout: float = 0.5,
) -> keras.Model:
    """Krizhevsky et al. 2012, five convolutions and two dense layers, in one piece.

    Kriuk & Kriuk 2024, table 2, compare with it and say nothing of its settings. Readings: one
    tower instead of two halves on two GPUs; no local response normalisation, which later networks
    found to bring nothing; one input channel; "same" padding, so that images from 32 pixels on
    go through.

    `width` are the filters of the first convolution, to which the others are in proportion;
    `units` those of each of the two dense layers, `dropout` the share dropped before each.

    Raises:
        HccrError: images under 32 pixels, or a width or units under 1.
    """
    if width < 1 or units < 1:
        raise HccrError(f"width and units are at least 1, not {width} and {units}.")

    # === Functional Model ===
    inputs, x = image_input(image_shape, "alexnet", least=32)
    for i, (kernel, strides, filters, pools) in enumerate(_CONVOLUTIONS, start=1):
        filters = max(1, filters * width // _TABLE_WIDTH)
        x = convolution(x, filters, kernel, f"conv{i}", strides=strides, activation="relu")
        if pools:
            x = layers.MaxPooling2D(
                3, 2, padding="same", name=FEATURE_MAP if i == len(_CONVOLUTIONS) else f"pool{i}"
            )(x)
    x = layers.Flatten(name=POOLING)(x)
    for i in (6, 7):
        x = layers.Dropout(dropout, name=f"dropout{i}")(x)
        x = layers.Dense(
            units, activation="relu", kernel_initializer="he_normal", name=f"dense{i}"
        )(x)
    x = layers.Dense(num_classes, dtype="float32", name=MAIN_OUTPUT)(x)
    return keras.Model(inputs, {MAIN_OUTPUT: x}, name="alexnet")
