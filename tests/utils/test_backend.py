"""The frameworks' start, which is to leave stderr to what users must know."""

import re
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy as np
import hccr_tf

recipe = hccr_tf.get_recipe("recogniser").override({"model.width": 4}, image_size=16, epochs=1)
hccr_tf.train(recipe, sys.argv[1], sys.argv[2])
image = np.full((40, 40), 255, np.uint8)
image[18:22, 5:35] = 0
print(len(hccr_tf.Recognizer().predict([image])), "read")
"""


@pytest.mark.timeout(300)
@pytest.mark.e2e
@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.parity)])
def test_use_from_python_says_nothing_of_frameworks(backend, sample_store, tmp_path, monkeypatch):
    pytest.importorskip(backend)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, sample_store.path, tmp_path / "run"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # The package's own warning stays: users must know it.
    assert re.fullmatch(r"(Validation has 19 images: .*\n)?", done.stderr)
    assert done.stdout == "1 read\n"
