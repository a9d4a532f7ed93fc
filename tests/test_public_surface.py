"""The package's own names: all there, with the defaults of the commands that call them."""

import inspect
from pathlib import Path

import pytest

import hccr_tf
from hccr_tf import HccrError
from hccr_tf.cli.flags import Parser
from hccr_tf.cli.parsers import COMMANDS


@pytest.mark.parametrize("name", hccr_tf.__all__)
def test_every_public_name_is_there_and_described(name):
    value = getattr(hccr_tf, name)
    assert name in dir(hccr_tf)
    assert isinstance(value, str) or inspect.getdoc(value)


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        hccr_tf.magic  # noqa: B018


def test_a_missing_extra_is_named(monkeypatch):
    def without(module):
        raise ModuleNotFoundError(name="jax")

    monkeypatch.delitem(vars(hccr_tf), "Loader", raising=False)
    monkeypatch.setattr(hccr_tf, "import_module", without)
    with pytest.raises(HccrError, match=r"hccr_tf\[tensorflow\]"):
        hccr_tf.Loader  # noqa: B018


@pytest.mark.parametrize(
    ("command", "function"),
    [
        ("data prepare", "prepare"),
        ("evaluate", "predict_split"),
        ("fuse", "fuse"),
        ("calibrate", "calibrate"),
    ],
)
def test_a_commands_defaults_are_its_functions(command, function):
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(getattr(hccr_tf, function)).parameters.items()
        if parameter.default is not parameter.empty and name != "tta"  # where None is the run's own
    }
    parser = Parser()
    COMMANDS[command].fill(parser)
    for name, default in defaults.items():
        assert parser.get_default(name) in (None, default), name


def test_paths_are_taken_where_the_commands_take_them(sample_store, tmp_path):
    paths = [sample_store.path, str(sample_store.path)]
    for path in paths:
        with pytest.raises(HccrError, match="no run"):
            hccr_tf.predict_split(tmp_path, path, tmp_path / "logits.h5")
        with pytest.raises(HccrError, match="no run"):
            hccr_tf.calibrate(tmp_path, path)
        with pytest.raises(HccrError, match="smallest size that works"):
            hccr_tf.train(hccr_tf.get_recipe("kriuk_model1").override(image_size=8), path, tmp_path)
    with pytest.raises(HccrError, match="no logits file"):
        hccr_tf.fuse([Path("nothing.h5")], tmp_path / "fused")
