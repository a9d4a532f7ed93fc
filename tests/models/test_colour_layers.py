"""Layers that networks of keras.applications need here."""

import keras
import numpy as np
import pytest

from hccr_tf.models.layers import GreyToColour, LayerScale


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_three_channels_of_one(dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 1)).astype(dtype)
    colours = GreyToColour([1, 0.5, 2], [0, -10, 3])(images)
    expected = np.concatenate([images * 1.0, images * 0.5 - 10, images * 2.0 + 3], axis=-1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(colours), expected, atol=1e-4)


def test_channels_are_scaled():
    layer = LayerScale(0.25, 3)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), x * 0.25, atol=1e-6)
    assert [(v.path.split("/")[-1], v.shape) for v in layer.weights] == [("gamma", (3,))]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(GreyToColour([1, 2, 3], [4, 5, 6]), (8, 8, 1)), (LayerScale(0.5, 3), (8, 8, 3))],
    ids=["colour", "scale"],
)
def test_they_are_saved_and_read(tmp_path, layer, shape):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).uniform(0, 255, (2, *shape)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(copy(x)), np.asarray(model(x)))
    assert copy.output.shape == (None, 8, 8, 3)
