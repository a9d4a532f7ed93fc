"""Every registered model keeps the registry's contract; a new one is tested as it is."""

import keras
import numpy as np
import pytest

from hccr_tf.models import (
    FEATURE_MAP,
    INPUT_SCALING,
    MAIN_OUTPUT,
    POOLING,
    create_model,
    list_models,
    model_arguments,
    model_description,
    register_model,
)
from hccr_tf.models.abstract import without_values

NUM_CLASSES = 7
IMAGE_SHAPE = (96, 96, 1)


def build(name, **arguments):
    return create_model(name, num_classes=NUM_CLASSES, image_shape=IMAGE_SHAPE, **arguments)


def blueprint(name, **arguments):
    return without_values(lambda: build(name, **arguments))


@pytest.fixture(scope="module", params=list_models())
def name(request):
    return request.param


@pytest.fixture(scope="module")
def training_model(name):
    return blueprint(name)


@pytest.fixture(scope="module")
def prediction_model(name):
    return build(name, aux_outputs=False)


@pytest.fixture
def mixed_bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


# === Contract ===


def test_input_is_uint8(training_model):
    (inputs,) = training_model.inputs
    assert (inputs.dtype, inputs.shape) == ("uint8", (None, *IMAGE_SHAPE))


def test_outputs_are_float32_logits_by_name(training_model):
    assert isinstance(training_model.output, dict)
    assert MAIN_OUTPUT in training_model.output
    for output in training_model.output.values():
        assert (output.dtype, output.shape) == ("float32", (None, NUM_CLASSES))


def test_output_layers_have_their_outputs_names_and_are_linear(training_model):
    for name, output in training_model.output.items():
        layer = training_model.get_layer(name)
        assert layer.output is output
        assert getattr(layer, "activation", None) in (None, keras.activations.linear)


def test_layers_under_the_contracts_names(training_model):
    features = training_model.get_layer(FEATURE_MAP).output
    pooled = training_model.get_layer(POOLING).output
    assert len(features.shape) == 4 and len(pooled.shape) == 2
    (image,) = training_model.inputs
    assert training_model.get_layer(INPUT_SCALING).input is image
    # An activation map and a new head are made from these.
    keras.Model(image, [features, pooled])


def test_without_auxiliary_heads_only_the_main_output_is_left(prediction_model, training_model):
    assert set(prediction_model.output) == {MAIN_OUTPUT}
    shapes = {v.path: v.shape for v in training_model.weights}
    for variable in prediction_model.weights:
        assert shapes[variable.path] == variable.shape


def test_variable_paths_are_unique_and_the_same_in_every_build(name, training_model):
    paths = [v.path for v in training_model.weights]
    assert len(set(paths)) == len(paths)
    assert [v.path for v in blueprint(name).weights] == paths


def test_predicts_images_of_grey_levels(prediction_model):
    images = np.random.default_rng(0).integers(0, 256, (2, *IMAGE_SHAPE), dtype=np.uint8)
    logits = prediction_model.predict_on_batch(images)[MAIN_OUTPUT]
    assert (logits.shape, logits.dtype) == ((2, NUM_CLASSES), np.float32)
    assert np.isfinite(logits).all()
    assert abs(logits[0] - logits[1]).max() > 0


def test_logits_are_float32_under_mixed_precision(name, mixed_bfloat16):
    model = blueprint(name)
    assert model.get_layer(FEATURE_MAP).output.dtype == "bfloat16"
    assert {output.dtype for output in model.output.values()} == {"float32"}


def test_no_layer_holds_python_code(training_model):
    layers = list(training_model._flatten_layers())
    assert len(layers) > 5
    assert not [layer.name for layer in layers if isinstance(layer, keras.layers.Lambda)]


def test_description_is_one_line(name):
    assert "\n" not in model_description(name)
    assert len(model_description(name)) > 10


def test_unknown_arguments_are_refused(name):
    known = str(sorted(model_arguments(name)))
    with pytest.raises(ValueError, match=r"has no argument \['colour', 'depht'\]") as caught:
        build(name, depht=3, colour=1)
    assert known in str(caught.value)


@pytest.mark.parametrize("image_shape", [(96, 96, 3), (96, 96), (96, 96, 1, 1)])
def test_other_image_shapes_are_refused(name, image_shape):
    with pytest.raises(ValueError, match=r"image_shape is \(height, width, 1\)"):
        create_model(name, num_classes=NUM_CLASSES, image_shape=image_shape)


def test_one_class_is_refused(name):
    with pytest.raises(ValueError, match="num_classes is at least 2, not 1"):
        create_model(name, num_classes=1, image_shape=IMAGE_SHAPE)


# === Registry ===


def test_models_are_listed_in_order():
    assert "brick_net" in list_models()
    assert list_models() == sorted(list_models())


def test_an_unknown_model_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no model 'brick'; there are: .*brick_net"):
        create_model("brick", num_classes=NUM_CLASSES)


def test_a_name_is_taken_once():
    def brick_net(num_classes, image_shape, aux_outputs):
        raise AssertionError

    with pytest.raises(ValueError, match="'brick_net' is registered already"):
        register_model(brick_net)


def test_a_builder_needs_the_contracts_arguments():
    def thin_net(num_classes):
        raise AssertionError

    with pytest.raises(TypeError, match=r"lacks the arguments \['aux_outputs', 'image_shape'\]"):
        register_model(thin_net)
    assert "thin_net" not in list_models()
