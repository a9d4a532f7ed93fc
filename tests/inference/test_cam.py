"""Class activation maps against a direct evaluation of the paper's equations."""

import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps

from hccr_tf import create_model, get_recipe, train
from hccr_tf.cli.main import main
from hccr_tf.images.contact_sheet import encode_png
from hccr_tf.images.decoding import decode_grey
from hccr_tf.inference.cam import ActivationMapper, overlay, upsample
from hccr_tf.models import FEATURE_MAP, MAIN_OUTPUT, POOLING

MELNYK = ["melnyk_net_a", "melnyk_net_b", "melnyk_net_c"]


def random_images(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 1), dtype=np.uint8)


def melnyk(name, size=64):
    model = create_model(name, num_classes=7, image_shape=(size, size, 1), width=8)
    rng = np.random.default_rng(1)
    pooling, classifier = model.get_layer(POOLING), model.get_layer(MAIN_OUTPUT)
    if pooling.weights:
        pooling.kernel.assign(rng.normal(size=pooling.kernel.shape))
    classifier.kernel.assign(rng.normal(size=classifier.kernel.shape))
    classifier.bias.assign(rng.normal(size=7))
    return model


@pytest.mark.parametrize("name", MELNYK)
def test_maps_are_equations_1_8_and_9(name):
    model = melnyk(name)
    images, classes = random_images(3, 64), np.array([[1, 5], [0, 2], [6, 6]])
    result = ActivationMapper(model)(images, classes)
    features = keras.Model(model.input, model.get_layer(FEATURE_MAP).output)(images)
    features = np.asarray(features, np.float64)
    w_out = np.asarray(model.get_layer(MAIN_OUTPUT).kernel, np.float64)
    weights = 1.0
    if name != "melnyk_net_a":
        weights = np.asarray(model.get_layer(POOLING).kernel, np.float64)
    starred = weights * features  # equation 8
    for b in range(3):
        for j, k in enumerate(classes[b]):
            direct = sum(w_out[i, k] * starred[b, :, :, i] for i in range(features.shape[-1]))
            np.testing.assert_allclose(result.maps[b, j], direct, rtol=1e-4, atol=1e-4)
    # The map adds up to the logit without its bias; model A's pooling is a mean.
    totals = result.maps.sum(axis=(2, 3)) / (16 if name == "melnyk_net_a" else 1)
    bias = np.asarray(model.get_layer(MAIN_OUTPUT).bias)
    logits = np.take_along_axis(result.logits, classes, axis=1) - bias[classes]
    np.testing.assert_allclose(totals, logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", MELNYK)
def test_gradients_give_the_same_maps(name):
    model = melnyk(name)
    images, classes = random_images(2, 64), np.array([[3], [4]])
    by_weights = ActivationMapper(model)
    assert not by_weights.through_gradients
    # The same map under another name: the mapper can't know what follows it.
    by_gradients = ActivationMapper(model, "block4_bn3")
    assert by_gradients.through_gradients
    relu = ActivationMapper(model)
    relu.through_gradients = True
    scale = 16 if name == "melnyk_net_a" else 1  # equation 1 leaves out the mean's divisor
    expected = by_weights(images, classes).maps
    # Before the rectifier gradient times value is the same where it's open, and 0 elsewhere.
    for mapper in (relu, by_gradients):
        maps = scale * mapper(images, classes).maps
        np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-3)


def test_one_image_is_a_batch_of_one():
    mapper = ActivationMapper(melnyk("melnyk_net_c"))
    images = random_images(2, 64)
    np.testing.assert_allclose(mapper(images[1]).maps, mapper(images).maps[1:], atol=1e-3)
    assert mapper(images[1], 3).classes.tolist() == [[3]]


def test_what_does_not_fit_is_refused():
    model = melnyk("melnyk_net_b")
    mapper = ActivationMapper(model)
    with pytest.raises(ValueError, match="3 rows of classes don't fit 2 images"):
        mapper(random_images(2, 64), [0, 1, 2])
    with pytest.raises(ValueError, match="Classes are 0 to 6"):
        mapper(random_images(1, 64), [7])
    for name in ("nowhere", "dropout"):
        with pytest.raises(ValueError, match=f"'{name}' with a map; those are: .*block0_conv1"):
            ActivationMapper(model, name)
    with pytest.raises(ValueError, match="images are too small"):
        ActivationMapper(create_model("melnyk_net_a", num_classes=3, image_shape=(1, 1, 1)))


def test_upsampling_is_bilinear():
    enlarged = upsample(np.array([[[0.0, 4.0]]]), (1, 4))
    # Sources of four pixels at -1/4, 1/4, 3/4 and 5/4 of the two places' centres.
    np.testing.assert_allclose(enlarged, [[[0, 1, 3, 4]]])


def test_overlay_is_yellow_where_the_map_is_great():
    image = np.zeros((8, 8, 1), np.uint8)
    cam = np.array([[1.0, 0.0], [0.0, 0.0]])
    coloured = overlay(image, cam)
    assert coloured.shape == (640, 640, 3) and coloured.dtype == np.uint8
    # The colours' ends, 60 % of them over black.
    low, high = (np.rint(0.6 * 255 * np.array(colormaps["viridis"](x)[:3])) for x in (0.0, 1.0))
    assert (coloured[0, 0] == high).all() and (coloured[-1, -1] == low).all()
    # A flat map has the colour of the least; with limits, values have their own.
    assert (overlay(image, np.ones((2, 2))) == low).all()
    assert (overlay(image, np.ones((2, 2)), limits=(0, 1)) == high).all()
    white = overlay(np.full((8, 8), 255, np.uint8), cam)
    assert (white.astype(int) - coloured == round(0.4 * 255)).all()


# === Files ===


@pytest.fixture(scope="module")
def runs(sample_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    small, sizes = {"model.width": 4}, {"melnyk_net_a": 32, "melnyk_net_c": 48}
    recipes = [
        get_recipe(name).override(small, image_size=size, epochs=1, batch_size=32)
        for name, size in sizes.items()
    ]
    return [train(recipe, sample_store, folder / recipe.name).path for recipe in recipes]


@pytest.mark.integration
def test_the_command_draws_samples_of_a_store(runs, sample_store, tmp_path):
    out = tmp_path / "cams"
    command = ["cam", "--data", str(sample_store.path), "--characters", "零百", "--top-k", "2"]
    command += ["--save-input"]
    assert main([*command, "--out", str(out), "--workdir", *map(str, runs)]) == 0
    table = pd.read_csv(out / "cam.csv")
    assert len(table) == 2 * 2 * 2
    assert set(table["run"]) == {"melnyk_net_a", "melnyk_net_c"}
    assert (table["method"] == "weights").all()
    assert table["probability"].between(0, 1).all()
    ranked = table.pivot(index=["image", "run"], columns="rank", values="probability")
    assert (ranked[1] >= ranked[2]).all()
    maps = np.load(out / "maps.npz")
    assert maps["melnyk_net_a/maps"].shape == (2, 2, 2, 2)
    assert maps["melnyk_net_c/maps"].shape == (2, 2, 3, 3)
    for path in table["overlay"]:
        assert (out / path).is_file()
    sheet = decode_grey((out / "cam.png").read_bytes())
    assert sheet.shape[1] > 3 * 224
    seen = sorted((out / "inputs").glob("*.png"))
    assert [decode_grey(path.read_bytes()).shape[0] for path in seen] == [32, 48, 32, 48]


@pytest.mark.integration
def test_the_command_draws_image_files(runs, sample_store, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    plain = sample_store.image(0)
    # Light ink on black, which is cleaned, so that the network sees the same.
    for name, image in {"plain": plain, "black": 255 - plain}.items():
        (tmp_path / "in" / f"{name}.png").write_bytes(encode_png(image))
    # The images first: --workdir takes all that follow it.
    command = ["--workdir", str(runs[0]), "--out", str(tmp_path / "cams")]
    assert main(["cam", str(tmp_path / "in"), *command]) == 0
    table = pd.read_csv(tmp_path / "cams" / "cam.csv")
    assert len(table) == 2 and table["character"].nunique() == 1
    assert table["probability"][0] == pytest.approx(table["probability"][1], abs=0.02)
    bad = tmp_path / "in" / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert main(["cam", str(tmp_path / "in"), *command]) == 0
    assert "bad.png: " in capsys.readouterr().err
    for arguments, message in (
        ([str(bad)], "None of 1 images could be read"),
        ([str(tmp_path / "none.png")], "none.png: No such file"),
        ([], "either image files, or --data and --characters"),
        (["--data", str(sample_store.path), "--characters", "垂"], "not among the 15 characters"),
    ):
        assert main(["cam", *arguments, *command]) == 2
        assert message in capsys.readouterr().err
