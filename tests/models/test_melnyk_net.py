"""Melnyk-Net against table 1 of its paper and against direct evaluation of its poolings."""

import keras
import numpy as np
import pytest

from hccr_tf import create_model
from hccr_tf.models import FEATURE_MAP, MAIN_OUTPUT, POOLING, blueprint
from hccr_tf.models.layers import (
    GlobalWeightedAveragePooling2D,
    GlobalWeightedOutputAveragePooling2D,
)

# Table 2.
PARAMETERS = {"melnyk_net_a": 6_507_691, "melnyk_net_b": 6_508_139, "melnyk_net_c": 6_523_819}
# Table 1: filters, and side of the map, of each convolution at 96×96.
FILTERS = [64, 64, 96, 64, 96, 128, 96, 128, 256, 192, 256, 448, 256, 448]
MAPS = [96, 96, 48, 48, 48, 24, 24, 24, 12, 12, 12, 6, 6, 6]


@pytest.mark.parametrize("name", PARAMETERS)
def test_layers_of_table_1_and_parameters_of_table_2(name):
    model = blueprint(name, num_classes=3755)
    assert model.count_params() == PARAMETERS[name]
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert [x.filters for x in convolutions] == FILTERS
    assert [x.output.shape[1] for x in convolutions] == MAPS
    for layer in convolutions:
        assert (layer.kernel_size, layer.strides, layer.use_bias) == ((3, 3), (1, 1), False)
        assert layer.kernel_regularizer.l2 == pytest.approx(1e-3)
    pools = [x for x in model.layers if isinstance(x, keras.layers.AveragePooling2D)]
    assert [x.output.shape[1] for x in pools] == [48, 24, 12, 6]
    assert {(x.pool_size, x.strides, x.padding) for x in pools} == {((3, 3), (2, 2), "same")}
    kinds = [type(x).__name__ for x in model.layers]
    # Each convolution is normalised, then rectified.
    places = [i for i, kind in enumerate(kinds) if kind == "Conv2D"]
    for i in places:
        assert kinds[i + 1 : i + 3] == ["BatchNormalization", "ReLU"]
    assert model.get_layer(FEATURE_MAP).output.shape == (None, 6, 6, 448)
    assert model.get_layer(POOLING).output.shape == (None, 448)
    assert [x.rate for x in model.layers if isinstance(x, keras.layers.Dropout)] == [0.5]


def test_initial_values():
    model = create_model("melnyk_net_c", num_classes=500, image_shape=(32, 32, 1))
    kernel = np.asarray(model.get_layer("block3_conv1").kernel)
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)
    classifier = model.get_layer(MAIN_OUTPUT)
    assert np.asarray(classifier.kernel).std() == pytest.approx(0.001, rel=0.02)
    assert not np.asarray(classifier.bias).any()
    assert (np.asarray(model.get_layer(POOLING).kernel) == 1).all()


def test_weight_decay_is_in_the_loss():
    model = create_model("melnyk_net_b", num_classes=5, image_shape=(16, 16, 1), width=4)
    decayed = [x for x in model.layers if isinstance(x, (keras.layers.Conv2D, keras.layers.Dense))]
    model.get_layer(MAIN_OUTPUT).bias.assign([3.0, 1.0, 0.0, 0.0, -2.0])
    expected = 1e-3 * sum(float((np.asarray(x.kernel) ** 2).sum()) for x in decayed)
    expected += 1e-3 * 14  # the classifier's bias
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)
    none = create_model("melnyk_net_b", num_classes=5, image_shape=(16, 16, 1), width=4, l2=0.0)
    assert float(sum(none.losses)) == 0


def test_weighted_poolings_are_equations_6_and_7():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    for layer, shape in (
        (GlobalWeightedAveragePooling2D(), (4, 5, 6)),
        (GlobalWeightedOutputAveragePooling2D(), (6,)),
    ):
        # Weights of 1 are a plain sum.
        np.testing.assert_allclose(layer(features), features.sum(axis=(1, 2)), rtol=1e-5)
        weights = rng.normal(size=shape).astype(np.float32)
        layer.kernel.assign(weights)
        every = np.broadcast_to(weights, (4, 5, 6))
        expected = np.einsum("ijm,bijm->bm", every, features)
        np.testing.assert_allclose(layer(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "kind", [GlobalWeightedAveragePooling2D, GlobalWeightedOutputAveragePooling2D]
)
def test_weighted_poolings_are_serialisable_and_keep_their_bits_in_half_precision(kind):
    layer = kind(name="pooling")
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is kind
    assert again.get_config() == layer.get_config()
    features = np.random.default_rng(0).uniform(0.5, 1, (2, 6, 6, 8)).astype(np.float32)
    found = kind(dtype="mixed_bfloat16")(features)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    # A number of eight bits is within 1/256 of the exact sum of its rounded parts.
    exact = keras.ops.cast(keras.ops.cast(features, "bfloat16"), "float32")
    exact = np.asarray(exact).sum(axis=(1, 2))
    np.testing.assert_allclose(keras.ops.cast(found, "float32"), exact, rtol=1 / 256)


def test_a_width_of_nothing_is_refused():
    with pytest.raises(ValueError, match="width is at least 1, not 0"):
        create_model("melnyk_net_a", num_classes=5, width=0)
