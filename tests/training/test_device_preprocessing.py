"""Training with resize and blur on the device gives the run that training without gives."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# Each backend in a process of its own: a backend is chosen once a process.
PROGRAM = """
import sys
from pathlib import Path
import h5py
import keras
import pandas as pd
from hccr_tf import Predictor, Store, get_recipe, predict_split, train

store, folder = Store(sys.argv[1]), Path(sys.argv[2])
settings = {"image_size": 24, "model.num_bricks": 2, "model.width": 16, "batch_size": 16,
            "learning_rate": 2e-3, "augmentation.amount": 0.0, "augmentation.shift": 0.0,
            "epochs": 16}
runs, histories = {}, {}
for where, device in (("host", False), ("device", True)):
    recipe = get_recipe("brick_model2").override(device_preprocessing=device, **settings)
    runs[where] = train(recipe, store, folder / where)
    histories[where] = pd.read_csv(runs[where].history_path)
assert list(histories["host"]) == list(histories["device"])
for name in ("best.weights.h5", "prediction.weights.h5"):
    shapes = []
    for run in runs.values():
        with h5py.File(run.path / name) as file:
            found = {}
            file["model"].visititems(
                lambda path, item: found.update({path: item.shape})
                if isinstance(item, h5py.Dataset) else None)
            shapes.append(found)
    assert shapes[0] == shapes[1] and shapes[0], name
accuracies = {}
for where, run in runs.items():
    # The predictor prepares images on the host, whatever trained it.
    metrics = predict_split(run.path, store, folder / (where + ".h5"), split="validation",
                            crops="none")
    live = run.read_run()["best_val_accuracy"]
    assert abs(metrics["logits"]["top1"] - live) < 1.5 / 19, (where, metrics, live)
    accuracies[where] = predict_split(run.path, store, folder / "t.h5")["logits"]["top1"]
losses = {w: h["main_output_loss"].iloc[-1] for w, h in histories.items()}
assert all(h["main_output_loss"].iloc[-1] < 0.6 * h["main_output_loss"].iloc[0]
           for h in histories.values()), losses
assert abs(losses["host"] - losses["device"]) < 0.4 * losses["host"], losses
# Chance is one in fifteen.
assert min(accuracies.values()) > 0.3, accuracies
try:
    train(get_recipe("brick_model2").override(**settings), store, folder / "device")
except ValueError as error:
    assert "device_preprocessing: False, True" in str(error), error
else:
    raise AssertionError("a run went on with the other preprocessing")
print("alike", accuracies, losses)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_device_and_host_train_alike(backend, sample_store, tmp_path):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(sample_store.path), str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "alike" in done.stdout
    print(done.stdout.splitlines()[-1])


def test_it_goes_on_where_it_stopped(sample_store, tmp_path):
    import numpy as np
    import pandas as pd

    from hccr_tf import get_recipe, train

    recipe = get_recipe("kriuk_model2").override(
        image_size=16,
        **{"model.num_bricks": 2, "model.width": 16},
        batch_size=32,
        device_preprocessing=True,
        epochs=1,
    )
    whole = train(recipe.override(epochs=2), sample_store, tmp_path / "whole")
    train(recipe, sample_store, tmp_path / "parts")
    parts = train(recipe.override(epochs=2), sample_store, tmp_path / "parts")
    ours, theirs = (pd.read_csv(run.history_path) for run in (parts, whole))
    names = [name for name in theirs if "loss" in name or "accuracy" in name]
    np.testing.assert_allclose(ours[names], theirs[names], rtol=2e-3, atol=1e-5)
