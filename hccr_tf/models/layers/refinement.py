"""Layers of iterative refinement: Yang et al. 2017, section III."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("hccr_tf")
class UnionOfVectors(keras.layers.Layer):
    """The feature vectors of several maps, one after another (Yang et al. 2017, eqs. 16, 17).

    From a list of (B, h, w, K), of any sizes, to (B, N, K), N = Σ h·w, each map row by row.
    """

    def call(self, maps):
        vectors = [ops.reshape(m, (-1, m.shape[1] * m.shape[2], m.shape[3])) for m in maps]
        return ops.concatenate(vectors, axis=1)


@keras.saving.register_keras_serializable("hccr_tf")
class RefinementStart(keras.layers.Layer):
    """What refinement begins with: a uniform prediction and a state of zeros.

    From vectors (B, N, K), of which only the number of images is taken, to (B, C) of 1 / C, and
    (B, units) of 0.
    """

    def __init__(self, num_classes: int, units: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.units = units

    def call(self, vectors):
        batch = ops.shape(vectors)[0]
        prediction = ops.full((batch, self.num_classes), 1 / self.num_classes, self.compute_dtype)
        return prediction, ops.zeros((batch, self.units), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "units": self.units}


@keras.saving.register_keras_serializable("hccr_tf")
class AdditiveAttention(keras.layers.Layer):
    """Where to look, and what is there (Yang et al. 2017, eqs. 5, 8 and 10).

    e_n = vᵀ tanh(query + key_n), α = softmax(e), context = Σ α_n V_n. `keras.layers` has an
    additive attention whose query is a sequence and whose keys' width is the values'. From the
    query W y_{t-1} (B, A), keys U V (B, N, A) and vectors V (B, N, K) to the context (B, K) and α,
    float32 (B, N).
    """

    def build(self, query_shape, keys_shape, vectors_shape):
        # As a column, so that its initial values have the spread of a layer of that width.
        self.kernel = self.add_weight(name="kernel", shape=(query_shape[-1], 1))

    def call(self, query, keys, vectors):
        scores = ops.matmul(ops.tanh(query[:, None] + keys), self.kernel)[..., 0]
        # Half precision has too few bits for sums over thousands of places.
        attention = ops.softmax(ops.cast(scores, "float32"), axis=-1)
        weights = ops.cast(attention, self.compute_dtype)
        return ops.matmul(weights[:, None], vectors)[:, 0], attention

    def count_macs(self, query, keys, vectors) -> int:
        """Multiply–accumulates for one image, shapes without the batch."""
        places, channels = vectors
        return places * query[-1] + places * channels
