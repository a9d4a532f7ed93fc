"""Every registered model keeps the registry's contract; a new one is tested as it is."""

import json

import keras
import numpy as np
import pytest
from untrained import untrained_run

from hccr_tf.inference import predictor
from hccr_tf.inference.cam import ActivationMapper
from hccr_tf.models import (
    FEATURE_MAP,
    INPUT_SCALING,
    MAIN_OUTPUT,
    POOLING,
    blueprint,
    create_model,
    list_models,
    model_arguments,
    model_description,
    register_model,
)
from hccr_tf.utils.errors import HccrError

NUM_CLASSES = 7
# The smallest sizes of which a map is left that has more than one place.
SIDES = {"alexnet": 64}
ARGUMENTS = {"brick_net": {"num_bricks": 3}, "efficientnet_v2s": {"enlarge": 2}}


@pytest.fixture(scope="module", params=list_models())
def name(request):
    return request.param


def settings(name):
    side = SIDES.get(name, 32)
    shape = {"num_classes": NUM_CLASSES, "image_shape": (side, side, 1)}
    return {**shape, **ARGUMENTS.get(name, {})}


@pytest.fixture(scope="module")
def training_model(name):
    return blueprint(name, **settings(name))


# === Contract ===


def test_inputs_and_outputs(name, training_model):
    (inputs,) = training_model.inputs
    assert (inputs.dtype, inputs.shape) == ("uint8", (None, *settings(name)["image_shape"]))
    assert training_model.get_layer(INPUT_SCALING).input is inputs
    assert MAIN_OUTPUT in training_model.output
    for output, tensor in training_model.output.items():
        assert (tensor.dtype, tensor.shape) == ("float32", (None, NUM_CLASSES))
        layer = training_model.get_layer(output)
        assert layer.output is tensor
        assert getattr(layer, "activation", None) in (None, keras.activations.linear)
    features = training_model.get_layer(FEATURE_MAP).output
    pooled = training_model.get_layer(POOLING).output
    assert len(features.shape) == 4 and len(pooled.shape) == 2
    keras.Model(inputs, [features, pooled])  # an activation map and a new head are made from these
    layers = list(training_model._flatten_layers())
    assert len(layers) > 5
    # None that holds Python code.
    assert not [layer.name for layer in layers if isinstance(layer, keras.layers.Lambda)]


def test_variable_paths_are_unique_and_the_same_in_every_build(name, training_model):
    paths = [v.path for v in training_model.weights]
    assert len(set(paths)) == len(paths)
    assert [v.path for v in blueprint(name, **settings(name)).weights] == paths


def test_without_auxiliary_heads_it_predicts_and_has_maps(name, training_model):
    model = create_model(name, aux_outputs=False, **settings(name))
    assert set(model.output) == {MAIN_OUTPUT}
    shapes = {v.path: v.shape for v in training_model.weights}
    assert all(shapes[variable.path] == variable.shape for variable in model.weights)
    images = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:]), dtype=np.uint8)
    result = ActivationMapper(model)(images)
    assert (result.logits.shape, result.logits.dtype) == ((2, NUM_CLASSES), np.float32)
    assert np.isfinite(result.logits).all()
    assert abs(result.logits[0] - result.logits[1]).max() > 0
    np.testing.assert_array_equal(result.classes[:, 0], result.logits.argmax(axis=1))
    assert result.maps.shape[:2] == (2, 1) and min(result.maps.shape[2:]) >= 2
    assert np.isfinite(result.maps).all() and result.maps.std() > 0


def test_logits_are_float32_under_mixed_precision(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = blueprint(name, **settings(name))
    finally:
        keras.config.set_dtype_policy(before)
    assert model.get_layer(FEATURE_MAP).output.dtype == "bfloat16"
    assert {output.dtype for output in model.output.values()} == {"float32"}


def test_description_is_one_line(name):
    assert "\n" not in model_description(name)
    assert len(model_description(name)) > 10


def test_what_no_model_takes_is_refused(name):
    with pytest.raises(ValueError, match=r"No argument of .* is called 'colour'") as caught:
        create_model(name, depht=3, colour=1, **settings(name))
    assert ", ".join(sorted(model_arguments(name))) in str(caught.value)
    for image_shape in ((96, 96, 3), (96, 96), (96, 96, 1, 1)):
        with pytest.raises(ValueError, match=r"image_shape is \(height, width, 1\)"):
            create_model(name, num_classes=NUM_CLASSES, image_shape=image_shape)
    with pytest.raises(ValueError, match="num_classes is at least 2, not 1"):
        create_model(name, num_classes=1)


# === Registry ===


def test_models_are_listed_in_order():
    assert "brick_net" in list_models()
    assert list_models() == sorted(list_models())


def test_an_unknown_model_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="No model is called 'brick'. Did you mean brick_net"):
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


def test_networks_that_no_memory_holds_are_refused_before_they_are_built(tmp_path, monkeypatch):
    with pytest.raises(HccrError, match="numbers are at most 8192"):
        create_model("brick_net", num_classes=3, image_shape=(32, 32, 1), width=10**9)
    run = untrained_run(tmp_path / "run", "compact_net", width=4, blocks=(1, 1, 1, 1))
    file = run / "recipe.json"
    recipe = json.loads(file.read_text("utf-8"))
    recipe["model_args"]["width"] = 8192
    file.write_text(json.dumps(recipe), "utf-8")

    def build(*arguments, **options):
        raise AssertionError("memory was taken")

    monkeypatch.setattr(predictor, "create_model", build)
    with pytest.raises(HccrError, match="doesn't fit this model"):
        predictor.Predictor(run)
