"""The first layer of every network: grey levels as numbers to compute with."""

from collections.abc import Sequence

import keras
from keras import ops


@keras.saving.register_keras_serializable("hccr_tf")
class InputScaling(keras.layers.Layer):
    """Casts uint8 images (B, H, W, C) to the compute dtype and multiplies them.

    A scale of 1 / 255 gives [0, 1], 1 leaves 0–255. `keras.layers.Rescaling` does the same but
    needs TensorFlow on every backend.
    """

    def __init__(self, scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = float(scale)

    def call(self, images):
        return ops.cast(images, self.compute_dtype) * self.scale

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable("hccr_tf")
class GreyToColour(keras.layers.Layer):
    """Makes three channels of the one of images, (B, H, W, 1) to (B, H, W, 3).

    Each is multiplied by its scale, then its offset is added, in the compute dtype.
    """

    def __init__(self, scale: Sequence[float], offset: Sequence[float], **kwargs):
        super().__init__(**kwargs)
        self.scale = [float(value) for value in scale]
        self.offset = [float(value) for value in offset]

    def call(self, images):
        scale, offset = (ops.array(x, self.compute_dtype) for x in (self.scale, self.offset))
        return ops.cast(images, self.compute_dtype) * scale + offset

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}
