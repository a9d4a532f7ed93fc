"""Layers of our own against what they're defined by."""

import keras
import numpy as np
import pytest

from hccr_tf.models.layers import GreyToColour, SameAveragePooling2D


@pytest.mark.parametrize("side", [4, 5, 7, 8])
def test_average_pooling_counts_what_lies_in_the_image(side):
    features = np.random.default_rng(0).normal(size=(2, side, side + 1, 3)).astype(np.float32)
    found = keras.ops.convert_to_numpy(SameAveragePooling2D(3, strides=2)(features))
    before = 1 if side % 2 else 0  # an odd side lacks a pixel on either end, an even one at its end
    for i in range(found.shape[1]):
        rows = range(max(0, 2 * i - before), min(side, 2 * i - before + 3))
        other = 0 if side % 2 else 1
        for j in range(found.shape[2]):
            columns = range(max(0, 2 * j - other), min(side + 1, 2 * j - other + 3))
            part = features[:, rows.start : rows.stop, columns.start : columns.stop]
            np.testing.assert_allclose(found[:, i, j], part.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)
    config = keras.saving.serialize_keras_object(SameAveragePooling2D(3, strides=2))
    assert keras.saving.deserialize_keras_object(config).padding == "same"


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_three_channels_of_one(dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 1)).astype(dtype)
    config = keras.saving.serialize_keras_object(GreyToColour([1, 0.5, 2], [0, -10, 3]))
    layer = keras.saving.deserialize_keras_object(config)
    colours = layer(images)
    expected = np.concatenate([images * 1.0, images * 0.5 - 10, images * 2.0 + 3], axis=-1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(colours), expected, atol=1e-4)
    assert layer(keras.Input((8, 8, 1))).shape == (None, 8, 8, 3)
