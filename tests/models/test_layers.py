"""Preprocessing on the device equals that of the host to a grey level."""

import os
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest

from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.models.layers import DevicePreprocessing, SameAveragePooling2D, gaussian_weights

SIDE = 130

SETTINGS = {
    "larger": {"image_size": 256},
    "in between": {"image_size": 64},
    "smaller": {"image_size": 20},
    "padded": {"image_size": 96, "fit": "pad", "border": 4 / 96},
    "padded and small": {"image_size": 30, "fit": "pad"},
    "border and inversion": {"image_size": 128, "border": 0.05, "invert": True},
    "3x3": {"image_size": 256, "blur_kernel": 3, "blur_sigma": 20.0},
    "7x7": {"image_size": 256, "blur_kernel": 7, "blur_sigma": 50.0},
    "narrow": {"image_size": 96, "fit": "pad", "blur_kernel": 5, "blur_sigma": 1.3},
    "blur size": {"image_size": 64, "blur_kernel": 7, "blur_sigma": 50.0, "blur_size": 256},
    "unused blur size": {"image_size": 64, "blur_size": 256},
}


@pytest.fixture(scope="module")
def noise():
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (1, 130), (130, 1), (118, 105), (20, 20), (130, 130), (97, 96), (64, 128)]
    shapes += rng.integers(2, SIDE + 1, (40, 2)).tolist()
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def worst(name):
    """Where images are resized twice, a grey level's difference is resized too."""
    return 2 if name == "blur size" else 1


def differences(settings, images):
    preprocessing = Preprocessing(**settings)
    padded = np.empty((len(images), SIDE, SIDE, 1), np.uint8)
    sizes = preprocessing.pad_many(images, padded)
    got = keras.ops.convert_to_numpy(DevicePreprocessing(**settings)((padded, sizes)))
    assert got.dtype == np.uint8
    return abs(got.astype(int) - preprocessing.apply_many(images))


@pytest.mark.parametrize("name", SETTINGS)
def test_noise_differs_by_at_most_a_grey_level(name, noise):
    found = differences(SETTINGS[name], noise)
    assert found.max() <= worst(name)
    assert found.mean() <= 0.15


@pytest.mark.parametrize("name", SETTINGS)
def test_handwriting_hardly_differs(name, sample_store):
    images = [sample_store.image(i) for i in range(64)]
    found = differences(SETTINGS[name], images)
    assert found.max() <= worst(name)
    assert found.mean() <= 0.05


def test_sides_that_shrink_while_the_others_grow():
    """OpenCV's bilinear resize has its own rounding there."""
    rng = np.random.default_rng(1)
    shapes = [(h, w) for h in range(20, 131, 2) for w in (8, 30, 117)]
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    assert differences({"image_size": 116}, images).max() <= 1


def test_what_lies_beside_an_image_does_not_matter(noise):
    settings = {"image_size": 48, "blur_kernel": 3, "blur_sigma": 20.0}
    padded = np.zeros((len(noise), SIDE, SIDE, 1), np.uint8)
    sizes = Preprocessing(**settings).pad_many(noise, padded)
    layer = DevicePreprocessing(**settings)
    want = np.asarray(layer((padded, sizes)))
    for image, (height, width) in zip(padded, sizes, strict=True):
        image[height:], image[:, width:] = 17, 99
    np.testing.assert_array_equal(layer((padded, sizes)), want)


@pytest.mark.parametrize(
    ("kernel", "sigma"), [(1, 1.0), (3, 20.0), (5, 50.0), (7, 50.0), (7, 1.0), (9, 2.5), (31, 7.0)]
)
def test_blur_weights_are_those_of_opencv(kernel, sigma):
    weights = gaussian_weights(kernel, sigma)
    assert sum(weights) == 256
    image = np.random.default_rng(2).integers(0, 256, (40, 45), dtype=np.uint8)
    padded = np.pad(image.astype(np.int64), kernel // 2, mode="reflect")
    rows = sum(w * padded[i : i + 40] for i, w in enumerate(weights))
    exact = sum(w * rows[:, i : i + 45] for i, w in enumerate(weights))
    want = cv2.GaussianBlur(image, (kernel, kernel), sigma)
    np.testing.assert_array_equal((exact + 32768) >> 16, want)


def test_the_layer_is_saved_and_read(tmp_path, noise):
    settings = SETTINGS["blur size"]
    padded = np.empty((len(noise), SIDE, SIDE, 1), np.uint8)
    sizes = Preprocessing(**settings).pad_many(noise, padded)
    inputs = keras.Input((SIDE, SIDE, 1), dtype="uint8"), keras.Input((2,), dtype="int32")
    model = keras.Model(inputs, DevicePreprocessing(**settings, name="prepare")(inputs))
    assert (model.output.shape, model.output.dtype) == ((None, 64, 64, 1), "uint8")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_layer("prepare").get_config() == model.get_layer("prepare").get_config()
    np.testing.assert_array_equal(again((padded, sizes)), model((padded, sizes)))


def test_half_precision_changes_nothing(noise):
    policy = keras.config.dtype_policy()
    want = differences(SETTINGS["7x7"], noise)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        np.testing.assert_array_equal(differences(SETTINGS["7x7"], noise), want)
    finally:
        keras.config.set_dtype_policy(policy)


def test_a_kernel_over_the_whole_image_is_refused():
    with pytest.raises(ValueError, match="61 pixels reaches over an image of 30"):
        DevicePreprocessing(30, blur_kernel=61, blur_sigma=9.0)


@pytest.mark.slow
def test_the_same_on_jax():
    pytest.importorskip("jax")
    tests = ["noise_differs", "sides_that_shrink", "saved_and_read"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", __file__, "-k", " or ".join(tests)],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


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
