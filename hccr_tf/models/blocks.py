"""What networks of several families are made of."""

import keras

from hccr_tf.models.layers import InputScaling
from hccr_tf.models.registry import INPUT_SCALING
from hccr_tf.utils.errors import HccrError


def image_input(image_shape: tuple[int, int, int], network: str, scale=1 / 255, least: int = 1):
    """Makes a network's input, and what it computes with: uint8 levels times `scale`.

    Raises:
        HccrError: a side is under `least` pixels; the message names the network, or its size.
    """
    if min(image_shape[:2]) < least:
        raise HccrError(
            f"{image_shape[0]}×{image_shape[1]} pixels are too few for {network}; the smallest "
            f"size that works is {least}×{least}. Take a larger image_size."
        )
    inputs = keras.Input(image_shape, dtype="uint8", name="image")
    return inputs, InputScaling(scale, name=INPUT_SCALING)(inputs)


def convolution(x, filters: int, kernel: int, name: str, **options):
    """Applies a convolution that keeps the image's size but for strides, begun as He et al. do."""
    options = {"padding": "same", "kernel_initializer": "he_normal", "name": name, **options}
    return keras.layers.Conv2D(filters, kernel, **options)(x)
