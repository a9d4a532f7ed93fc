"""A factor for each channel, as ConvNeXt has it at the end of its blocks."""

import keras


@keras.saving.register_keras_serializable("hccr_tf")
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a learned number.

    `keras.applications.convnext` has the same with a variable whose name isn't the same twice.

    Args:
        init_values: what the factors begin with.
        projection_dim: number of channels.

    Call:
        x: (B, …, channels).

    Returns (`call`): the same shape.
    """

    def __init__(self, init_values: float, projection_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.init_values = init_values
        self.projection_dim = projection_dim

    def build(self, _):
        initializer = keras.initializers.Constant(self.init_values)
        self.gamma = self.add_weight(
            name="gamma", shape=(self.projection_dim,), initializer=initializer
        )

    def call(self, x):
        return x * self.gamma

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {
            **super().get_config(),
            "init_values": self.init_values,
            "projection_dim": self.projection_dim,
        }
