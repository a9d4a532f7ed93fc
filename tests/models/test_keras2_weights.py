"""Weights files of Keras 2, written here in the structure that Keras 2 gave them."""

from collections import Counter

import h5py
import keras
import numpy as np
import pytest
from keras2_files import write_keras2

from hccr_tf import Predictor, create_model
from hccr_tf.cli.main import main
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.models.keras2_weights import load_keras2_weights
from hccr_tf.models.weights import WeightsError

# Names of the published file's layers, by those of the network here.
KERAS2_NAMES = {
    "Conv2D": "conv2d",
    "BatchNormalization": "batch_normalization",
    "ReLU": "activation",
    "SameAveragePooling2D": "average_pooling2d",
    "GlobalWeightedAveragePooling2D": "global_weighted_average_pooling2d",
    "Dropout": "dropout",
    "Dense": "dense",
    "InputLayer": "input",
}


def network(num_classes=5, size=32):
    return create_model(
        "melnyk_net_c", num_classes=num_classes, image_shape=(size, size, 1), width=4
    )


def random_network():
    model = network()
    rng = np.random.default_rng(0)
    for variable in model.weights:
        # Positive, as variances must be.
        variable.assign(rng.uniform(0.1, 1, variable.shape) / 3)
    return model


def write(path, model=None, *structure):
    """Writes a network as Keras 2.2 did, which numbered the layers of each kind."""
    numbers: Counter[str] = Counter()
    named = {}
    for layer in (model or random_network()).layers:
        # The casting of images was outside of the network.
        if kind := KERAS2_NAMES.get(type(layer).__name__):
            numbers[kind] += 1
            named[f"{kind}_{numbers[kind]}"] = layer
    return write_keras2(path, named, *(structure or (True,)))


@pytest.mark.parametrize(
    "structure",
    [(True,), (False,), (True, True), (False, False, h5py.string_dtype())],
    ids=["whole", "weights", "chunked", "tf_keras"],
)
def test_a_file_of_that_structure_gives_the_same_network(tmp_path, structure):
    source = random_network()
    path = write(tmp_path / "Melnyk-Net.hdf5", source, *structure)
    model = network()
    load_keras2_weights(path, model)
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)
    expected = keras.ops.convert_to_numpy(source(images)[MAIN_OUTPUT])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(images)[MAIN_OUTPUT]), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 6}, r"main_output/kernel. .*\(28, 6\).*\(28, 5\).*as many classes as"),
        ({"size": 64}, r"pooling/kernel. .*\(4, 4, 28\).*\(2, 2, 28\).*of this image size"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, arguments, message):
    path = write(tmp_path / "w.hdf5")
    with pytest.raises(WeightsError, match=message):
        load_keras2_weights(path, network(**arguments))


def drop_the_classifier(file):
    names = file["model_weights"].attrs["layer_names"]
    file["model_weights"].attrs["layer_names"] = names[:-1]


def replaced(make):
    """Puts something else in the place of the classifier's kernel."""

    def damage(file):
        dense = file["model_weights/dense_1/dense_1"]
        del dense["kernel:0"]
        make(dense)

    return damage


def claim(dense):  # a tiny file that claims a huge array
    dense.create_dataset("kernel:0", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))


def link(dense):
    dense["kernel:0"] = h5py.ExternalLink("other.h5", "x")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_the_classifier, "expected 30 layers, found 29"),
        (replaced(lambda dense: None), "kernel:0"),
        (replaced(claim), "damaged"),
        (replaced(link), "is a link, which isn't read here"),
        (
            replaced(lambda dense: dense.update({"kernel:0": np.full((28, 5), np.nan, "f4")})),
            "main_output/kernel that aren't finite",
        ),
        (replaced(lambda dense: dense.update({"kernel:0": np.array([b"code"])})), "Shape mismatch"),
    ],
)
def test_damaged_files_are_told(tmp_path, damage, message):
    path = write(tmp_path / "w.hdf5")
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(WeightsError, match=message):
        load_keras2_weights(path, network())


def test_foreign_files_are_told(tmp_path):
    with pytest.raises(WeightsError, match="no weights file"):
        load_keras2_weights(tmp_path / "missing.hdf5", network())
    path = write(tmp_path / "w.hdf5")
    (tmp_path / "cut.hdf5").write_bytes(path.read_bytes()[:3000])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1.0
    for name in ("cut.hdf5", "other.h5"):
        with pytest.raises(WeightsError, match=f"{name} is damaged, or doesn't fit"):
            load_keras2_weights(tmp_path / name, network())
    (tmp_path / "prediction.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"ends in \.h5 or \.hdf5.*--init-from"):
        load_keras2_weights(tmp_path / "prediction.safetensors", network())


def test_whole_models_of_keras_3_are_read(tmp_path):
    model, other = random_network(), network()
    model.save(tmp_path / "whole.h5")
    load_keras2_weights(tmp_path / "whole.h5", other)
    for wanted, found in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(wanted, found)
    model.save_weights(tmp_path / "alone.weights.h5")
    with pytest.raises(WeightsError, match=r"and not, as Keras 3's, in \.weights\.h5"):
        load_keras2_weights(tmp_path / "alone.weights.h5", other)


@pytest.mark.slow
@pytest.mark.integration
def test_an_imported_run_reads_with_the_published_class_order(tmp_path, capsys):
    # At full size with few classes; codes as the published label2tagcode.npy has them.
    model = create_model("melnyk_net_c", num_classes=4)
    path = write(tmp_path / "Melnyk-Net.hdf5", model)
    codes = [int.from_bytes(c.encode("gbk"), "big") for c in "座垂啊一"]
    np.save(tmp_path / "label2tagcode.npy", np.array(codes, np.uint16)[:, None])
    run, other = str(tmp_path / "run"), str(tmp_path / "other")
    codes_path = str(tmp_path / "label2tagcode.npy")
    assert main(["import", str(path), "--charset", codes_path, "--workdir", run]) == 0
    assert "as a run of melnyk_c" in capsys.readouterr().out
    predictor = Predictor(run)
    assert predictor.charset.text == "座垂啊一"
    images = np.random.default_rng(1).integers(0, 256, (3, 96, 96, 1), dtype=np.uint8)
    expected = keras.ops.convert_to_numpy(model(images)[MAIN_OUTPUT])
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(predictor.logits(images), expected, rtol=1e-5, atol=1e-5)
    assert main(["import", str(path), "--charset", codes_path, "--workdir", run]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main(["import", str(path), "--charset", "chinese-mnist", "--workdir", other]) == 2
    assert "as many classes as the charset has characters" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
