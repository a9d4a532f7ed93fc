"""Poolings of Melnyk, You & Li 2018: averages over windows, weighted sums over all."""

import math

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("hccr_tf")
class SameAveragePooling2D(keras.layers.AveragePooling2D):
    """`AveragePooling2D` with padding "same" that is the same on every backend.

    A window that reaches over the edge averages what it has of the image. So does Keras on
    TensorFlow and JAX; on PyTorch (Keras 3.15) it counts the padding too.
    """

    def __init__(self, pool_size: int = 2, strides: int | None = None, **kwargs):
        kwargs.pop("padding", None)
        super().__init__(pool_size, strides=strides, padding="same", **kwargs)

    def call(self, features):
        if keras.backend.backend() != "torch":
            return super().call(features)
        pads, shares = [[0, 0]], []
        for side, size, stride in zip(
            features.shape[1:3], self.pool_size, self.strides, strict=True
        ):
            windows = -(-side // stride)
            missing = max((windows - 1) * stride + size - side, 0)
            before = missing // 2
            pads.append([before, missing - before])
            begin = np.arange(windows) * stride - before
            inside = np.minimum(begin + size, side) - np.maximum(begin, 0)
            shares.append(size / inside)
        padded = ops.pad(features, [*pads, [0, 0]])
        means = ops.average_pool(padded, self.pool_size, self.strides, padding="valid")
        weights = np.outer(*shares)[None, :, :, None]
        return means * ops.cast(weights, means.dtype)


class _GlobalWeightedPooling(keras.layers.Layer):
    """Sum over all places of a map, (B, H, W, C) to (B, C), times trainable weights."""

    weighted_axes: tuple[int, ...]  # of the map

    def build(self, features_shape):
        shape = tuple(features_shape[axis] for axis in self.weighted_axes)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="ones")

    def weighted(self, features):
        """The map before it's summed, F* of Melnyk et al. 2018, eq. 8: (B, H, W, C)."""
        return features * ops.cast(self.kernel, features.dtype)

    def call(self, features):
        # A sum, not a mean: half precision would lose what the later places add.
        total = ops.sum(ops.cast(self.weighted(features), "float32"), axis=(1, 2))
        return ops.cast(total, self.compute_dtype)

    def count_macs(self, features_shape) -> int:
        """Multiply–accumulates for one image."""
        return math.prod(features_shape)


@keras.saving.register_keras_serializable("hccr_tf")
class GlobalWeightedAveragePooling2D(_GlobalWeightedPooling):
    """GWAP: a weight for every place of every channel (Melnyk et al. 2018, eq. 6).

    Σ_ij w_ijm f_ijm of (B, H, W, C), a sum and not a mean; H·W·C weights, which begin at 1, so
    the image's size is fixed.
    """

    weighted_axes = (1, 2, 3)


@keras.saving.register_keras_serializable("hccr_tf")
class GlobalWeightedOutputAveragePooling2D(_GlobalWeightedPooling):
    """GWOAP: a weight for every channel (Melnyk et al. 2018, eq. 7).

    Σ_ij w_m f_ijm of (B, H, W, C), a sum and not a mean; C weights, which begin at 1.
    """

    weighted_axes = (3,)
