"""The main job by its scripts, as a user gives them, and a run on JAX where TensorFlow isn't."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from hccr_tf import predict_split
from hccr_tf.cli.main import main

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
SMALL = ["--image-size", "16", "--model.num_bricks", "2", "--model.width", "16", "--epochs", "1"]


@pytest.fixture
def run_script(monkeypatch, capsys):
    """A function that runs a script in this process and returns what it printed."""

    def run(script: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit, match="^0$"):
            runpy.run_path(str(ROOT / script), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_main_job_from_sample_to_fused_accuracy(run_script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main("data sample --out sample --writers 8 --test-writers 3".split()) == 0
    assert main("data prepare sample --out store".split()) == 0
    assert "15 classes" in capsys.readouterr().out
    assert main("data show store --verify".split()) == 0
    assert Path("store-sheet.png").stat().st_size > 1000
    files = [f"logits{i}.h5" for i in (1, 2, 3)]
    for i, file in enumerate(files, 1):
        place = ["--data", "store", "--workdir", f"run{i}"]
        printed = run_script(f"trainers/trainer{i}.py", *place, *SMALL)
        assert "epoch 1/1" in printed and "best epoch" in printed
        run_script(f"predictors/predictor{i}.py", *place, "--split", "test", "--out", file)
    recipes = [json.loads(Path(f"run{i}/recipe.json").read_text()) for i in (1, 2, 3)]
    assert [recipe["preprocessing"]["blur_kernel"] for recipe in recipes] == [0, 3, 7]
    with h5py.File(files[0]) as file:
        assert file["logits"].shape == (180, 15) and file["logits"].dtype == "float32"
        assert file["labels"].dtype == "int32"
        assert len(file.attrs["charset"].decode()) == 15
        assert json.loads(file.attrs["recipe"])["name"] == "kriuk_model1"
    weights = ["--weights", 0.3, 0.2, 0.5]
    printed = run_script("predictors/predictor_finalizer.py", *files, *weights, "--out", "results")
    fused = next(line for line in printed.splitlines() if "fused" in line)
    metrics = json.loads(Path("results/metrics.json").read_text())
    assert f"{100 * metrics['fused']['logits']['top1']:.2f}%" in fused
    predictions = pd.read_csv("results/predictions.csv")
    assert predictions["correct"].mean() == pytest.approx(metrics["fused"]["logits"]["top1"])
    for name in ("per_class.csv", "confused_pairs.csv", "confused_pairs.png"):
        assert (Path("results") / name).stat().st_size


# Everything but tf.data and tf.distribute, with TensorFlow out of reach.
WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
from hccr_tf.cli.main import main
import keras
assert keras.backend.backend() == "jax"
store, run, small = sys.argv[1], sys.argv[2], sys.argv[3:]
for _ in range(2):
    assert main(["train", "brick_model1", "--data", store, "--workdir", "jax", *small]) == 0
staged = ["--model", "convnet", "--image-size", "16", "--model.width", "4", "--stages",
          "backbone:1,3:1", "--samples-per-class", "8"]
assert main(["train", "transfer", "--data", store, "--workdir", "staged", *staged]) == 0
for workdir, file in (("jax", "jax.h5"), (run, "run.h5")):
    assert main(["evaluate", workdir, "--data", store, "--out", file]) == 0
"""


@pytest.mark.slow
def test_jax_without_tensorflow_trains_and_reads_others_runs(brick_run, sample_store, tmp_path):
    """The same weights give the same logits on both backends, in both directions."""
    pytest.importorskip("jax")
    arguments = [str(sample_store.path), str(brick_run), *SMALL]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nothing to do" in done.stdout
    assert "Stage 2 of 2, from epoch 2 on" in done.stdout
    for run, file in ((tmp_path / "jax", "jax.h5"), (brick_run, "run.h5")):
        predict_split(run, sample_store, tmp_path / "here.h5")
        with h5py.File(tmp_path / file) as there, h5py.File(tmp_path / "here.h5") as here:
            np.testing.assert_allclose(there["logits"], here["logits"], atol=1e-4)
