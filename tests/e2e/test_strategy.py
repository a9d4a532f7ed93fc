"""Several devices through MirroredStrategy, shown on two virtual CPUs."""

import subprocess
import sys

import pytest

# In a process of its own: devices can be split only before TensorFlow has started.
PROGRAM = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import pandas as pd
from hccr_tf import Store, get_recipe, predict_split, train
from hccr_tf.recipe import Stage
from hccr_tf.training import trainer

trainer.distribution_strategy = lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
store, folder, way = Store(sys.argv[1]), sys.argv[2], sys.argv[3]
if way == "begun":
    recipe = get_recipe("kriuk_model1").override(
        image_size=16, model_args={"num_bricks": 2, "width": 16}, batch_size=18, epochs=1)
    train(recipe, store, folder)
    recipe = recipe.override(epochs=2)
else:
    recipe = get_recipe("transfer").override(
        model="convnet", model_args={"width": 4, "blocks": [1, 1, 1]}, image_size=16,
        batch_size=18, stages=(Stage(1, "backbone"), Stage(1, 3)))
run = train(recipe, store, folder)
state = run.read_run()
assert state["epochs_done"] == 2, state
metrics = predict_split(run.path, store, folder + "/l.h5", split="validation", tta="none")
# What was reloaded reads as the live model did, which saw one sample of 19 twice.
assert abs(metrics["logits"]["top1"] - state["best_val_accuracy"]) < 2 / 19, (metrics, state)
print("steps", pd.read_csv(run.history_path)["step"].iloc[-1])
"""


@pytest.mark.e2e
@pytest.mark.parametrize("way", ["begun", "in stages"])
def test_two_replicas_train_and_save(sample_store, tmp_path, way):
    pytest.importorskip("tensorflow")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(sample_store.path), str(tmp_path / "run"), way],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    steps = 2 * -(-len(sample_store.indices("train")) // 18)
    assert f"steps {steps}" in done.stdout
