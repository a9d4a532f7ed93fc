import tempfile
from pathlib import Path
from unittest.mock import Mock

import keras
import numpy as np
import pytest
from disk import leftovers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from hccr_tf.models.weights import load_weights, read_attributes, save_weights


def make_model(units=5, seed=0, extra=()):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, name="hidden")(inputs)
    for name in extra:
        x = keras.layers.Dense(4, name=name)(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(inputs, keras.layers.Dense(units, name="main_output")(x))


def values(variables):
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def assert_values(variables, want):
    for got, expected in zip(values(variables), want, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.fixture
def model():
    return make_model()


@pytest.fixture
def other():
    """The same network made again, with other values."""
    return make_model(seed=1)


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"model": model.variables}, {"epoch": 3, "note": "最好"})
    return path


def test_round_trip(path, model, other):
    # Keras numbers seeds on, and a run may be continued in the process that began it.
    assert {v.path for v in model.variables} != {v.path for v in other.variables}
    assert sum("seed_generator" in v.path for v in other.variables) == 2
    for variable, unlike in zip(model.variables, other.variables, strict=True):
        if variable.path.endswith(("kernel", "state")):
            assert (values([variable])[0] != values([unlike])[0]).any()
    load_weights(path, "model", other.variables)
    assert_values(other.variables, values(model.variables))
    assert read_attributes(path) == {"epoch": 3, "note": "最好"}


def test_groups_are_kept_apart(model, tmp_path):
    optimizer = keras.optimizers.Adam(0.01, name="adam")
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(7)
    path = tmp_path / "w.safetensors"
    save_weights(path, {"model": model.variables, "optimizer": optimizer.variables}, {})
    fresh = keras.optimizers.Adam(0.5, name="adam")
    fresh.build(model.trainable_variables)
    load_weights(path, "optimizer", fresh.variables)
    assert_values(fresh.variables, values(optimizer.variables))
    with pytest.raises(ValueError, match="missing"):
        load_weights(path, "model", fresh.variables)
    with pytest.raises(ValueError, match="missing"):
        load_weights(path, "ema", model.variables)


def test_a_smaller_model_reads_its_part(path, model, other):
    hidden = other.get_layer("hidden").weights
    load_weights(path, "model", hidden)
    assert_values(hidden, values(model.get_layer("hidden").weights))
    assert (values(other.weights)[-2] != values(model.weights)[-2]).any()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            {"units": 6},
            r"w\.safetensors .*: main_output/kernel is \(4, 5\), not \(4, 6\); "
            r"main_output/bias is \(5,\), not \(6,\)\.",
        ),
        (
            {"extra": ("b", "c")},
            "b/kernel is missing; b/bias is missing; c/kernel is missing and 1 more",
        ),
    ],
    ids=["another shape", "missing"],
)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_assigned(path, network, message):
    unlike = make_model(seed=1, **network)
    before = values(unlike.variables)
    with pytest.raises(ValueError, match=message):
        load_weights(path, "model", unlike.variables)
    assert_values(unlike.variables, before)


def test_skipped_variables_keep_their_values(path, model):
    wider = make_model(units=6, seed=1)
    head = values(wider.get_layer("main_output").weights)
    load_weights(path, "model", wider.weights, skip=["main_output/kernel", "main_output/bias"])
    assert_values(wider.get_layer("main_output").weights, head)
    assert_values(wider.get_layer("hidden").weights, values(model.get_layer("hidden").weights))


def test_rows_of_known_classes_are_read(path, model):
    wider = make_model(units=6, seed=1)
    # Kernel and bias, with the classes first.
    old = [v.T.copy() for v in values(wider.get_layer("main_output").weights)]
    axes = {"main_output/kernel": 1, "main_output/bias": 0}
    load_weights(path, "model", wider.weights, axes=axes, rows=([5, 0], [1, 2]))
    heads = (values(m.get_layer("main_output").weights) for m in (wider, model))
    for found, stored, before in zip(*heads, old, strict=True):
        np.testing.assert_array_equal(found.T[[5, 0]], stored.T[[1, 2]])
        np.testing.assert_array_equal(found.T[1:5], before[1:5])
    assert_values(wider.get_layer("hidden").weights, values(model.get_layer("hidden").weights))
    with pytest.raises(ValueError, match="main_output/kernel is"):
        load_weights(path, "model", wider.weights, axes={"main_output/kernel": 0})


def test_two_variables_of_one_name_are_refused(tmp_path, model):
    with pytest.raises(ValueError, match="Two variables are called 'hidden/kernel'"):
        save_weights(tmp_path / "w.safetensors", {"model": [*model.weights, model.weights[0]]}, {})
    assert not list(tmp_path.iterdir())


# === Damage ===


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"epoch", b"epoxy"), (b"model/bn/gamma", b"model/bn/gamme"), (b"[4]", b"[5]"), (b"", b"")],
    ids=["attributes", "names", "shapes", "values"],
)
def test_damage_is_noticed_and_nothing_is_assigned(path, other, old, new):
    data = bytearray(path.read_bytes())
    assert old in data
    if old:
        data = data.replace(old, new, 1)
    else:
        data[-3] ^= 1
    path.write_bytes(data)
    before = values(other.variables)
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged"):
        load_weights(path, "model", other.variables)
    assert_values(other.variables, before)


@given(share=st.floats(0, 0.999))
@settings(max_examples=25, deadline=None)
def test_a_truncated_file_is_a_weights_error(share):
    with tempfile.TemporaryDirectory() as folder:
        path, model = Path(folder) / "w.safetensors", make_model()
        save_weights(path, {"model": model.variables}, {})
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        for read in (read_attributes, lambda p: load_weights(p, "model", model.variables)):
            with pytest.raises(ValueError, match=r"w\.safetensors is damaged or of another"):
                read(path)


def test_other_files_are_refused(tmp_path, model):
    with pytest.raises(ValueError, match=r"no weights file .*none\.safetensors"):
        read_attributes(tmp_path / "none.safetensors")
    (tmp_path / "best.weights.h5").touch()
    with pytest.raises(ValueError, match=r"best\.weights\.h5 is of an earlier version"):
        read_attributes(tmp_path / "best.safetensors")
    (tmp_path / "text.safetensors").write_text("weights")
    with pytest.raises(ValueError, match=r"text\.safetensors is damaged or of another"):
        read_attributes(tmp_path / "text.safetensors")
    model.save_weights(tmp_path / "keras.weights.h5")
    with pytest.raises(ValueError, match="keras.weights.h5 is damaged or of another kind"):
        load_weights(tmp_path / "keras.weights.h5", "model", model.variables)
    save_file({"x": np.zeros(3)}, tmp_path / "others.safetensors")
    with pytest.raises(ValueError, match="wasn't written by this package"):
        read_attributes(tmp_path / "others.safetensors")


# === Interrupted writes ===


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failure_in_the_middle_leaves_the_earlier_file(path, other, monkeypatch, error):
    data = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr("hccr_tf.models.weights.save_file", Mock(side_effect=error))
        save_weights(path, {"model": other.variables}, {"epoch": 4})
    assert path.read_bytes() == data and not leftovers(path.parent)
    save_weights(path, {"model": other.variables}, {"epoch": 4})
    assert read_attributes(path) == {"epoch": 4} and not leftovers(path.parent)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scaled", [False, True])
def test_numbers_that_are_not_finite_are_refused(tmp_path, model, value, scaled):
    """They would be read as characters with no probability."""
    arrays = {v.path: np.asarray(v) for v in model.weights if "seed" not in v.path}
    kernel = arrays["main_output/kernel"]
    if scaled:
        arrays["main_output/kernel"] = np.ones(kernel.shape, np.int8)
        arrays["main_output/kernel:scale"] = np.full((1, kernel.shape[1]), value, np.float32)
    else:
        arrays["main_output/kernel"] = np.full_like(kernel, value)
    save_weights(tmp_path / "w.safetensors", {"model": arrays}, {})
    variables = [v for v in model.weights if "seed" not in v.path]
    before = values(variables)
    with pytest.raises(ValueError, match="numbers in main_output/kernel that aren't finite"):
        load_weights(tmp_path / "w.safetensors", "model", variables)
    assert_values(variables, before)


def test_headers_that_are_no_headers_are_refused(tmp_path):
    for header in ("{", "[]", "{}", '{"attributes": 1, "sha256": "a"}', "[" * 100_000):
        save_file({"model/a": np.zeros(3)}, tmp_path / "w.safetensors", {"hccr_tf": header})
        with pytest.raises(ValueError, match=r"w\.safetensors"):
            read_attributes(tmp_path / "w.safetensors")
