"""Equal weights give equal logits: as once recorded, and on every backend."""

import json
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from hccr_tf.inference.onnx_predictor import OnnxPredictor
from hccr_tf.pretrained import EXPORTED, FOLDER

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "recorded_logits.json").read_text("utf-8"))
BACKENDS = ["tensorflow", "jax", "torch"]
pytestmark = pytest.mark.parity


def compute(backend, path):
    done = subprocess.run(
        [sys.executable, str(HERE / "equal_outputs.py"), str(path)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="session")
def outputs(make_once):
    """A function from a backend's name to what `equal_outputs.py` computes on it."""

    @cache
    def run(backend):
        if find_spec(backend) is None:
            pytest.skip(f"{backend} isn't installed; `make test-torch` installs and tests PyTorch")
        path = make_once(f"{backend}.npz", lambda path: compute(backend, path))
        return dict(np.load(path))

    return run


def assert_equal(found, expected, name):
    scale = np.abs(expected).max()
    assert scale > 0, name
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_networks_give_the_recorded_logits(backend, outputs):
    found = outputs(backend)
    for name, logits in RECORDED["networks"].items():
        key = f"{name}/main_output".replace(":", "-")
        assert_equal(found[key], np.array(logits), key)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_recogniser_gives_the_logits_of_its_exported_file(backend, outputs):
    found = outputs(backend)
    exported = OnnxPredictor(FOLDER / EXPORTED).logits(found["recogniser/images"])
    logits = found["recogniser/logits"]
    # The file multiplies integers.
    assert np.sqrt(((logits - exported) ** 2).mean()) < 0.2 * logits.std()
    assert (logits.argmax(1) == exported.argmax(1)).mean() >= 0.9


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_heads_and_activation_maps_are_those_of_tensorflow(backend, outputs):
    found, expected = outputs(backend), outputs("tensorflow")
    assert set(found) == set(expected) and len(found) > 20
    for name in expected:
        assert_equal(found[name], expected[name], name)
