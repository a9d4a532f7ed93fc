"""Tests of what has code of its own for JAX, run again there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = (
    "training/test_keras_data.py",
    "training/test_schedules.py::test_it_goes_on_within_an_epoch[9]",
    "models/test_layers.py",
    "models/test_mrbc.py::test_vectors_times_classes_are_never_made",
)


@pytest.mark.parity
def test_they_pass_on_jax_too():
    pytest.importorskip("jax")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    done = subprocess.run(
        [*command, *(f"tests/{name}" for name in TESTS)],
        cwd=root,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout[-3000:]
