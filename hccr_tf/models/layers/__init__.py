"""Layers that Keras doesn't have, on `keras.ops` alone."""

from hccr_tf.models.layers.input_scaling import GreyToColour, InputScaling
from hccr_tf.models.layers.pooling import (
    GlobalWeightedAveragePooling2D,
    GlobalWeightedOutputAveragePooling2D,
    SameAveragePooling2D,
)
from hccr_tf.models.layers.refinement import AdditiveAttention, RefinementStart, UnionOfVectors
