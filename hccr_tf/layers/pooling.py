"""Weighted global poolings: Melnyk, You & Li 2018, section 3.3."""

import keras
from keras import ops


class _GlobalWeightedPooling(keras.layers.Layer):
    """Sum over all places of a map times trainable weights, which begin at 1.

    Args:
        kernel_initializer: of the weights.

    Call:
        features: (B, H, W, C).

    Returns (`call`): (B, C).
    """

    def __init__(self, kernel_initializer="ones", **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def _kernel_shape(self, features_shape) -> tuple[int, ...]:
        raise NotImplementedError

    def build(self, features_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=self._kernel_shape(features_shape),
            initializer=self.kernel_initializer,
        )

    def weighted(self, features):
        """The map before it's summed, F* of Melnyk et al. 2018, eq. 8: (B, H, W, C)."""
        return features * ops.cast(self.kernel, features.dtype)

    def call(self, features):
        return ops.sum(self.weighted(features), axis=(1, 2))

    def compute_output_shape(self, features_shape):
        return (features_shape[0], features_shape[-1])

    def get_config(self):
        initializer = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), "kernel_initializer": initializer}


@keras.saving.register_keras_serializable("hccr_tf")
class GlobalWeightedAveragePooling2D(_GlobalWeightedPooling):
    """GWAP: a weight for every place of every channel (Melnyk et al. 2018, eq. 6).

    Σ_ij w_ijm f_ijm, a sum and not a mean; H·W·C weights, so the picture's size is fixed.
    Arguments, input and output are those of every weighted pooling: `kernel_initializer`,
    (B, H, W, C) to (B, C).
    """

    def _kernel_shape(self, features_shape):
        if None in features_shape[1:]:
            raise ValueError(
                "GWAP has a weight for every place of its map, so the picture's size must be "
                f"known; this map is {features_shape[1:]}."
            )
        return tuple(features_shape[1:])


@keras.saving.register_keras_serializable("hccr_tf")
class GlobalWeightedOutputAveragePooling2D(_GlobalWeightedPooling):
    """GWOAP: a weight for every channel (Melnyk et al. 2018, eq. 7).

    Σ_ij w_m f_ijm, a sum and not a mean; C weights. Arguments, input and output are those of
    every weighted pooling: `kernel_initializer`, (B, H, W, C) to (B, C).
    """

    def _kernel_shape(self, features_shape):
        return (features_shape[-1],)
