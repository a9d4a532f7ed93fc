"""Equal weights give equal outputs and activation maps on every backend, for every network."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "helpers" / "equal_outputs.py"
pytestmark = pytest.mark.parity


def outputs(backend, path):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} isn't installed; `make test-torch` installs and tests PyTorch")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(path)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(path)


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory):
    return outputs("tensorflow", tmp_path_factory.mktemp("outputs") / "tensorflow.npz")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_equal_weights_give_equal_outputs(backend, on_tensorflow, tmp_path):
    others = outputs(backend, tmp_path / "outputs.npz")
    assert set(others) == set(on_tensorflow) and len(others) > 20
    for name in others:
        expected = on_tensorflow[name]
        scale = np.abs(expected).max()
        assert scale > 0, name
        np.testing.assert_allclose(others[name] / scale, expected / scale, atol=1e-4, err_msg=name)
