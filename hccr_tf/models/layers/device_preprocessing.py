"""Resize and blur within the compiled step."""

import math

import keras
import numpy as np
from keras import ops

from hccr_tf.utils.errors import HccrError


@keras.saving.register_keras_serializable("hccr_tf")
class DevicePreprocessing(keras.layers.Layer):
    """Resizes and blurs images inside the compiled step, as `Preprocessing` does on the host.

    Resizing is linear and separable: an image times a small matrix for its rows and one
    for its columns, made from its true size. Where an image is enlarged these hold
    OpenCV's bilinear weights, where it shrinks those of its area average. The blur is a
    sum of shifted images, with OpenCV's own weights in 1/256. Grey levels are rounded
    after each stage.

    Against OpenCV on a CPU (tests/test_layers.py) a pixel differs by at most 1 grey level, or
    2 where a blur size has it resized twice; on average by under 0.05 on handwriting and
    under 0.15 on noise. Matrix products of less than 24 bits, such as TF32 on a GPU, can
    add to the resize's part of it; the blur is exact everywhere.

    Args:
        image_size, fit, border, blur_kernel, blur_sigma, blur_size, invert: as those of
            `hccr_tf.Preprocessing`, whose `crop_ink` is the host's work.

    Call:
        inputs: `(images, sizes)`: uint8 (B, S, S, 1), each image at the top left,
            and int32 (B, 2), its true height and width, 1 to S.

    Returns (`call`): uint8 (B, image_size, image_size, 1).

    Raises:
        HccrError: a kernel that reaches over the whole image.
    """

    def __init__(
        self,
        image_size: int,
        fit: str = "stretch",
        border: float = 0.0,
        blur_kernel: int = 0,
        blur_sigma: float = 0.0,
        blur_size: int | None = None,
        invert: bool = False,
        **kwargs,
    ):
        # Half precision has too few bits for grey levels times weights.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.image_size = image_size
        self.fit = fit
        self.border = border
        self.blur_kernel = blur_kernel
        self.blur_sigma = blur_sigma
        self.blur_size = blur_size
        self.invert = invert
        self._work = max(image_size, blur_size or 0) if blur_kernel else image_size
        self._inner = max(1, self._work - 2 * round(border * self._work))
        if blur_kernel // 2 >= self._work:
            raise HccrError(
                f"A kernel of {blur_kernel} pixels reaches over an image of {self._work}."
            )

    def call(self, inputs):
        images, sizes = inputs
        x = ops.cast(images[..., 0], "float32")
        source = ops.cast(sizes, "int32")
        target = self._target_sizes(source)
        mixed = None
        if self.fit == "stretch":
            mixed = _mixed_positions(images.shape[1], self._inner)
        x = self._resize(x, source, target, self._work, mixed)
        if self.blur_kernel:
            x = self._blur(x)
        if self._work != self.image_size:
            source = ops.full_like(source, self._work)
            x = self._resize(x, source, ops.full_like(source, self.image_size), self.image_size)
        if self.invert:
            x = 255.0 - x
        return ops.cast(x, "uint8")[..., None]

    def compute_output_spec(self, inputs):
        shape = (inputs[0].shape[0], self.image_size, self.image_size, 1)
        return keras.KerasTensor(shape, dtype="uint8")

    def get_config(self):
        names = ("image_size", "fit", "border", "blur_kernel", "blur_sigma", "blur_size", "invert")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _target_sizes(self, source):
        if self.fit == "stretch":
            return ops.full_like(source, self._inner)
        longest = ops.max(source, axis=1, keepdims=True)
        exact = ops.cast(source * self._inner, "float32") / ops.cast(longest, "float32")
        return ops.maximum(ops.cast(ops.round(exact), "int32"), 1)

    def _resize(self, x, source, target, size, mixed=None):
        """Images (B, S, S) of sizes `source` to sizes `target` in squares of white."""
        shrinks = ops.any(target < source, axis=1)
        # OpenCV averages areas only where both sides shrink.
        averages = ops.logical_and(shrinks, ops.all(target <= source, axis=1))
        common = (shrinks, averages, x.shape[1], size, mixed)
        rows, on_row = _weights(source[:, 0], target[:, 0], *common)
        columns, on_column = _weights(source[:, 1], target[:, 1], *common)
        x = ops.matmul(ops.matmul(rows, x), ops.transpose(columns, (0, 2, 1)))
        inside = ops.logical_and(on_row[:, :, None], on_column[:, None, :])
        return ops.where(inside, ops.clip(ops.round(x), 0.0, 255.0), 255.0)

    def _blur(self, x):
        weights = gaussian_weights(self.blur_kernel, self.blur_sigma)
        margin = self.blur_kernel // 2
        for axis in (1, 2):
            # OpenCV's BORDER_REFLECT_101: the outermost pixel isn't repeated.
            padding = [[0, 0], [0, 0], [0, 0]]
            padding[axis] = [margin, margin]
            padded = ops.pad(x, padding, mode="reflect") if margin else x
            parts = [
                padded[:, i : i + self._work] if axis == 1 else padded[:, :, i : i + self._work]
                for i in range(self.blur_kernel)
            ]
            x = sum(part * (w / 256) for part, w in zip(parts, weights, strict=True))
        # Sums of 24 bits: float32 holds them exactly, and OpenCV rounds halves up.
        return ops.floor(x + 0.5)


def _weights(source, target, shrinks, averages, num_pixels, size, mixed):
    """The matrix that resizes one side of each image, and where its result lies.

    Args:
        source: int32 (B,), the side's length before.
        target: int32 (B,), and after; centred among `size`.
        shrinks: bool (B,), whether the image shrinks in any direction.
        averages: bool (B,), whether it does in both.
        num_pixels: columns of the matrix.
        size: rows of it.
        mixed: `_mixed_positions` for images that shrink in one direction and grow in
            the other; None where there are none.

    Returns:
        float32 (B, size, num_pixels) and bool (B, size).
    """
    h, n = source[:, None], target[:, None]
    i = ops.arange(size, dtype="int32")[None] - (size - n) // 2
    inside = ops.logical_and(i >= 0, i < n)
    i = ops.clip(i, 0, n - 1)
    hf, nf = ops.cast(h, "float32"), ops.cast(n, "float32")
    fi = ops.cast(i, "float32")
    linear = (fi + 0.5) * hf / nf - 0.5
    position = linear
    if mixed is not None:
        mixed = ops.take_along_axis(ops.take(mixed, source, axis=0), i, axis=1)
        position = ops.where(shrinks[:, None], mixed, linear)
    position = ops.clip(position, 0.0, hf - 1)[:, :, None]
    pixel = ops.arange(num_pixels, dtype="float32")[None, None]
    bilinear = ops.maximum(0.0, 1 - ops.abs(position - pixel))
    begin = (fi * hf / nf)[:, :, None]
    end = ((fi + 1) * hf / nf)[:, :, None]
    overlap = ops.maximum(0.0, ops.minimum(pixel + 1, end) - ops.maximum(pixel, begin))
    area = overlap * (nf / hf)[:, :, None]
    return ops.where(averages[:, None, None], area, bilinear), inside


def _mixed_positions(longest: int, target: int) -> np.ndarray:
    """Where OpenCV's "area" resize reads if one side shrinks and the other grows.

    It's bilinear then, with positions that jump by a pixel where OpenCV's own double
    precision falls short of a whole number; so they're made here in its way.

    Returns:
        float32 (longest + 1, target): the position in a side of that many pixels.
    """
    source = np.maximum(np.arange(longest + 1.0), 1)[:, None]
    i = np.arange(target)[None]
    inverse = target / source
    first = np.floor(i * (1 / inverse))
    fraction = ((i + 1) - (first + 1) * inverse).astype(np.float32)
    fraction = np.where(fraction <= 0, 0, fraction - np.floor(fraction))
    return (first + fraction).astype(np.float32)


def gaussian_weights(kernel: int, sigma: float) -> list[int]:
    """Weights of OpenCV's Gaussian blur of uint8 images, in 1/256; they add up to 256.

    OpenCV rounds from the outside in and hands each weight's rounding error to the next.

    Example:
        >>> gaussian_weights(3, 20.0), gaussian_weights(7, 50.0)
        ([85, 86, 85], [37, 36, 37, 36, 37, 36, 37])
    """
    reach = kernel // 2
    exact = [math.exp(-((i - reach) ** 2) / (2 * sigma**2)) for i in range(kernel)]
    total, error, side = sum(exact), 0.0, []
    for value in exact[:reach]:
        wanted = 256 * value / total + error
        side.append(round(wanted))
        error = wanted - side[-1]
    return [*side, 256 - 2 * sum(side), *reversed(side)]
