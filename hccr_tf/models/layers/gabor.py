"""Directional maps: what an image has of lines in each of some directions."""

import math

import keras
import numpy as np
from keras import ops

from hccr_tf.utils.errors import HccrError


def gabor_kernels(
    directions: int, size: int, wavelength: float, sigma: float, aspect: float
) -> np.ndarray:
    """Gabor's kernels for directions that are equally spaced over half a turn.

    exp(-(x'² + aspect² y'²) / 2 sigma²) cos(2π x' / wavelength), with x' and y' turned, less its
    mean, so that even ink gives nothing, and divided by the sum of its absolute values.

    Args:
        directions: how many; the first sees vertical lines, the next turn clockwise on the
            image.
        size: side in pixels, odd.
        wavelength: in pixels: twice the width of the lines that are seen best.
        sigma: of the envelope, in pixels.
        aspect: of the envelope: below 1 it's longer along the lines.

    Returns:
        float32 (size, size, 1, directions).
    """
    half = size // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    kernels = np.empty((size, size, 1, directions), np.float32)
    for i in range(directions):
        angle = math.pi * i / directions
        across = x * math.cos(angle) + y * math.sin(angle)
        along = -x * math.sin(angle) + y * math.cos(angle)
        envelope = np.exp(-(across**2 + (aspect * along) ** 2) / (2 * sigma**2))
        kernel = envelope * np.cos(2 * math.pi * across / wavelength)
        kernel -= kernel.mean()
        kernels[..., 0, i] = kernel / abs(kernel).sum()
    return kernels


@keras.saving.register_keras_serializable("hccr_tf")
class GaborMaps(keras.layers.Layer):
    """Appends to an image its Gabor maps: one channel for each direction, nothing to learn.

    Args:
        directions, size, wavelength, sigma, aspect: as for `gabor_kernels`.

    Call:
        images: float (B, H, W, 1).

    Returns (`call`): (B, H, W, 1 + directions), the image first.
    """

    def __init__(
        self,
        directions: int = 8,
        size: int = 11,
        wavelength: float = 6.0,
        sigma: float = 2.5,
        aspect: float = 0.5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if directions < 1 or size < 3 or size % 2 == 0:
            raise HccrError(
                f"Gabor maps have at least 1 direction and an odd size of at least 3, not "
                f"{directions} and {size}."
            )
        self.settings = {
            "directions": directions,
            "size": size,
            "wavelength": wavelength,
            "sigma": sigma,
            "aspect": aspect,
        }
        self._kernels = gabor_kernels(**self.settings)

    def call(self, images):
        kernels = ops.convert_to_tensor(self._kernels, self.compute_dtype)
        maps = ops.conv(images, kernels, padding="same", data_format="channels_last")
        return ops.concatenate([images, maps], axis=-1)

    def compute_output_shape(self, shape):
        return (*shape[:-1], shape[-1] + self.settings["directions"])

    def count_macs(self, shape) -> int:
        """Multiply–accumulates for one image."""
        return math.prod(shape) * self.settings["size"] ** 2 * self.settings["directions"]

    def get_config(self):
        return {**super().get_config(), **self.settings}
