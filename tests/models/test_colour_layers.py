"""Layers that networks of keras.applications need here."""

import keras
import numpy as np
import pytest

from hccr_tf.models.layers import GreyToColour


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_three_channels_of_one(dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 1)).astype(dtype)
    colours = GreyToColour([1, 0.5, 2], [0, -10, 3])(images)
    expected = np.concatenate([images * 1.0, images * 0.5 - 10, images * 2.0 + 3], axis=-1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(colours), expected, atol=1e-4)


def test_it_is_saved_and_read(tmp_path):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, GreyToColour([1, 2, 3], [4, 5, 6])(inputs))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(copy(x)), np.asarray(model(x)))
    assert copy.output.shape == (None, 8, 8, 3)
