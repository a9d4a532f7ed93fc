"""Networks of keras.applications: the paper's counts, official weights, grey images."""

import keras
import numpy as np
import pytest
from keras2_files import write_keras2

from hccr_tf.evaluation.complexity import count_macs
from hccr_tf.models import (
    BACKBONE,
    FEATURE_MAP,
    INPUT_SCALING,
    MAIN_OUTPUT,
    POOLING,
    applications,
    backbone_layers,
    blueprint,
    create_model,
    model_arguments,
    model_description,
)
from hccr_tf.models.abstract import without_values
from hccr_tf.models.weights import WeightsError

SMALL = "applications:MobileNetV3Small"
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1), dtype=np.uint8)


def fill(model):
    """Gives a model values under which nothing explodes or vanishes."""
    rng = np.random.default_rng(1)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.path.endswith(("moving_variance", "gamma")):
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[:-1])))
        variable.assign(values)


# === The paper's networks ===


@pytest.mark.slow
def test_efficientnet_has_the_papers_layers_and_parameters():
    model = blueprint("efficientnet_v2s", num_classes=15)
    backbone = model.get_layer(BACKBONE)
    assert len(backbone.layers) == 513
    assert backbone.count_params() == 20_331_360
    trained = sum(int(np.prod(v.shape)) for v in backbone.trainable_variables)
    assert trained == 20_177_488
    # Dense, dropout, dense (section 4.1).
    head = [type(layer).__name__ for layer in model.layers[-3:]]
    assert head == ["Dense", "Dropout", "Dense"]
    assert model.count_params() == 20_331_360 + 1280 * 256 + 256 + 256 * 15 + 15
    assert backbone_layers(model) == backbone.layers
    assert 0.2e9 < count_macs(model) < 0.25e9


@pytest.mark.parametrize(("side", "vectors"), [(299, 64), (107, 4), (64, 4), (256, 36)])
def test_inception_reads_its_map_as_a_sequence(side, vectors):
    model = blueprint("inception_v3_gru", num_classes=15, image_shape=(side, side, 1))
    assert model.get_layer("sequence").output.shape == (None, vectors, 2048)
    gru = model.get_layer(POOLING)
    assert (gru.units, gru.reset_after) == (256, False)
    assert len(model.get_layer(BACKBONE).layers) == 311
    assert model.get_layer(BACKBONE).count_params() == 21_802_784
    names = [layer.name for layer in model.layers]
    order = ["sequence", "noise", "dropout", POOLING, "bn", "hidden", MAIN_OUTPUT]
    assert [n for n in names if n in order] == order


def test_noise_can_act_on_the_images():
    model = blueprint("inception_v3_gru", num_classes=15, noise_at="images", noise=0.3)
    names = [layer.name for layer in model.layers]
    assert names.index("noise") < names.index("dropout") < names.index(BACKBONE)
    assert model.get_layer("noise").stddev == 0.3
    with pytest.raises(ValueError, match='noise_at is "features" or "images"'):
        blueprint("inception_v3_gru", num_classes=15, noise_at="map")


# === Any network ===


def test_any_network_by_name():
    model = create_model(SMALL, num_classes=7, image_shape=(64, 64, 1), units=20)
    assert model(IMAGES, training=False)[MAIN_OUTPUT].shape == (2, 7)
    assert model.get_layer("hidden").units == 20
    assert model.get_layer(FEATURE_MAP).output.shape == (None, 2, 2, 576)
    assert set(model_arguments(SMALL)) == {"units", "dropout", "enlarge"}
    assert "Any network of keras.applications" in model_description("applications")


def test_unknown_networks_are_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match="called 'MobileNet9'. Did you mean MobileNet, MobileNetV2"
    ):
        create_model("applications:MobileNet9", num_classes=7)
    with pytest.raises(
        ValueError, match=r"No model is called 'apps:X'. There are: .*applications:NAME"
    ):
        create_model("apps:X", num_classes=7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["InceptionV3", "ConvNeXtTiny", "MobileNetV3Small"])
def test_variables_are_called_the_same_in_every_build(name):
    paths = []
    for _ in range(2):
        applications._template.cache_clear()
        model = blueprint(f"applications:{name}", num_classes=7)
        paths.append([v.path for v in model.weights])
        keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()  # numbers go on
    assert paths[0] == paths[1]
    assert len(set(paths[0])) == len(paths[0])


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("ResNet50", "resnet"),
        ("DenseNet121", "densenet"),
        ("InceptionV3", "inception_v3"),
        ("EfficientNetV2S", "efficientnet_v2"),
    ],
)
def test_grey_becomes_the_colours_that_the_network_was_trained_on(name, module):
    model = blueprint(f"applications:{name}", num_classes=7)
    colours = model.get_layer(INPUT_SCALING)(IMAGES)
    grey = np.repeat(IMAGES, 3, axis=-1).astype(np.float32)
    expected = getattr(keras.applications, module).preprocess_input(grey.copy())
    np.testing.assert_allclose(keras.ops.convert_to_numpy(colours), expected, atol=1e-3)
    if name == "EfficientNetV2S":
        np.testing.assert_array_equal(expected, grey)  # it scales inside


@pytest.mark.slow
@pytest.mark.parametrize("name", ["EfficientNetB0", "EfficientNetV2B0"])
def test_the_network_is_the_one_that_the_weights_were_trained_in(name, monkeypatch):
    # Keras builds some networks otherwise where it's to fetch their weights.
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *args, **kwargs: "file")
    monkeypatch.setattr(keras.Model, "load_weights", lambda self, path: None)
    build = getattr(keras.applications, name)
    fetched = without_values(
        lambda: build(include_top=False, weights="imagenet", input_shape=(64, 64, 3))
    )
    ours = blueprint(f"applications:{name}", num_classes=7).get_layer(BACKBONE)
    kinds = [[type(layer).__name__ for layer in m.layers] for m in (ours, fetched)]
    assert kinds[0] == kinds[1]
    if name == "EfficientNetB0":
        first, second = (
            [layer for layer in m.layers if isinstance(layer, keras.layers.Rescaling)]
            for m in (ours, fetched)
        )
        assert [layer.scale for layer in first] == [layer.scale for layer in second]


@pytest.mark.slow
def test_equal_seeds_give_equal_weights_however_often():
    found = []
    applications._template.cache_clear()
    for _ in range(2):
        keras.utils.set_random_seed(1)
        model = create_model(SMALL, num_classes=7, image_shape=(64, 64, 1))
        found.append([keras.ops.convert_to_numpy(v) for v in model.weights])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("name", "side", "arguments", "enlarged"),
    [
        ("inception_v3_gru", 32, {}, 128),
        (SMALL, 20, {}, 40),
        (SMALL, 32, {}, None),
        (SMALL, 32, {"enlarge": 3}, 96),
    ],
)
def test_small_images_are_enlarged(name, side, arguments, enlarged):
    model = blueprint(name, num_classes=7, image_shape=(side, side, 1), **arguments)
    shapes = [layer.output.shape for layer in model.layers if layer.name == "enlarge"]
    assert shapes == ([(None, enlarged, enlarged, 3)] if enlarged else [])
    with pytest.raises(ValueError, match="enlarge is at least 1, not 0"):
        blueprint(name, num_classes=7, enlarge=0)


# === Weights ===


@pytest.mark.slow
def test_a_file_of_the_official_structure(tmp_path):
    def build(weights):
        return keras.applications.EfficientNetV2B0(
            include_top=False, weights=weights, input_shape=(64, 64, 3)
        )

    official, path = build(None), str(tmp_path / "efficientnetv2-b0_notop.h5")
    fill(official)
    write_keras2(path, {layer.name: layer for layer in official.layers})
    model = create_model("applications:EfficientNetV2B0", num_classes=15, weights=path)
    official = build(path)  # Keras itself takes the file for one of its own
    features = keras.Model(model.input, model.get_layer(FEATURE_MAP).output)
    got = keras.ops.convert_to_numpy(features(IMAGES, training=False))
    grey = np.repeat(IMAGES, 3, axis=-1).astype(np.float32)
    expected = keras.ops.convert_to_numpy(official(grey, training=False))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_files_that_do_not_fit_are_refused(tmp_path):
    other = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(64, 64, 3), alpha=0.75
    )
    write_keras2(tmp_path / "other.h5", {layer.name: layer for layer in other.layers})
    with pytest.raises(
        WeightsError, match=r"other\.h5 is damaged, or doesn't fit .*ends in _notop\.h5"
    ):
        create_model(SMALL, num_classes=7, weights=str(tmp_path / "other.h5"))
    with pytest.raises(WeightsError, match=r"no weights file .*none\.h5"):
        create_model(SMALL, num_classes=7, weights=str(tmp_path / "none.h5"))
    with pytest.raises(ValueError, match="convnet is no network of another package"):
        create_model("convnet", num_classes=7, weights="imagenet")


def test_imagenet_weights_are_kerass_own(monkeypatch):
    build = keras.applications.MobileNetV3Small
    asked = []

    def fetching(weights, **arguments):
        asked.append(weights)
        model = build(weights=None, **arguments)
        if weights == "imagenet":
            fill(model)
        return model

    fetching.__module__ = build.__module__
    monkeypatch.setattr(keras.applications, "MobileNetV3Small", fetching)
    model = create_model(SMALL, num_classes=7, weights="imagenet")
    assert "imagenet" in asked
    fetched = fetching("imagenet", include_top=False, input_shape=(64, 64, 3))
    for ours, theirs in zip(model.get_layer(BACKBONE).weights, fetched.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    def unreachable(weights, **arguments):
        raise Exception("URL fetch failure on https://example.org/small_notop.h5: None")

    unreachable.__module__ = keras.applications.MobileNetV3Small.__module__
    applications._template("MobileNetV3Small", (64, 64, 3), "float32")
    monkeypatch.setattr(keras.applications, "MobileNetV3Small", unreachable)
    with pytest.raises(WeightsError) as caught:
        create_model(SMALL, num_classes=7, image_shape=(64, 64, 1), weights="imagenet")
    parts = ("small_notop.h5", "--weights FILE", "--weights none", "weights=None", "--init-from")
    assert all(part in str(caught.value) for part in parts)
