"""What training prints of its images is what they read when evaluated, for every recipe."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

from hccr_tf import get_recipe, predict_split, prepare, train
from hccr_tf.data.store.store import Store
from hccr_tf.models import model_arguments
from hccr_tf.synthesis.sample import generate_gnt
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.training.keras_data import open_split

# Of each family one; all of them take an hour (benchmarks/moving_statistics.py takes any).
RECIPES = ("melnyk_net_c", "recogniser", "brick_model1")
LEARN = RECIPES[:2]  # within so few steps
EPOCHS = 4


@pytest.fixture(scope="module")
def few_images(make_once) -> Store:
    """Three classes, and seven steps of 32 images an epoch."""

    def fill(folder):
        strokes = {character: load_strokes()[character] for character in "一九百"}
        writers = {"num_writers": 37, "num_test_writers": 1, "samples_per_writer": 2}
        generate_gnt(folder / "data", strokes, **writers, seed=3, size=32)
        prepare([folder / "data"], folder / "store", progress=False)

    return Store(make_once("few_images", fill) / "store")


def small(name):
    recipe = get_recipe(name)
    settings = {"image_size": 32, "batch_size": 32, "epochs": EPOCHS, "patience": EPOCHS}
    sizes = {"model.width": 16, "model.num_bricks": 2, "model.units": 32, "model.gru_units": 32}
    there = model_arguments(recipe.model)
    settings |= {k: v for k, v in sizes.items() if k.removeprefix("model.") in there}
    settings |= {"samples_per_class": None, "validation_per_class": None, "weights": None}
    return recipe.override(settings, stages=())


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_images_read_when_evaluated_as_training_said(name, few_images, tmp_path):
    run = train(small(name), few_images, tmp_path / "run", init_from="none")
    history = run.read_history()
    printed = history[run.read_run()["best_epoch"] - 1]["main_output_accuracy"]
    found = predict_split(run.path, few_images, tmp_path / "l.h5", split="train", tta="none")
    # Only so: dropout, augmentation and the epoch's first weights are in what training prints, so
    # that without them more may be read.
    assert found["logits"]["top1"] >= printed - 0.1
    if name in LEARN:  # it isn't true because nothing was learnt
        assert printed > 0.5


@pytest.mark.integration
def test_statistics_are_those_of_the_weights_they_are_kept_with(few_images, tmp_path):
    recipe = small("resnet").override(epochs=1)
    run = train(recipe, few_images, tmp_path / "run")
    weights = load_file(run.best_weights)
    # The first convolution's outputs for the first training batches, by its own weights.
    loader = open_split(recipe, few_images, few_images.charset, "train")
    means = []
    for step in range(4):
        images = loader.batch(0, step).images.astype(np.float32) / 255
        kernel = weights["model/block1_conv1/kernel"]
        outputs = keras.ops.conv(images, kernel, padding="same")
        means.append(np.asarray(outputs).mean(axis=(0, 1, 2)))
    moving = weights["model/block1_bn1/moving_mean"]
    np.testing.assert_allclose(moving, np.mean(means, axis=0), rtol=0.02, atol=1e-4)


@pytest.mark.integration
def test_frozen_layers_keep_their_statistics(few_images, tmp_path):
    recipe = small("resnet").override(stages="backbone:1")
    run = train(recipe, few_images, tmp_path / "run")
    weights = load_file(run.best_weights)
    assert (weights["model/block1_bn1/moving_mean"] == 0).all()
    assert (weights["model/block1_bn1/moving_variance"] == 1).all()


@pytest.mark.integration
def test_few_validation_images_are_warned_of(few_images, tmp_path, caplog):
    recipe = small("resnet")
    validation = open_split(recipe, few_images, few_images.charset, "validation")
    low, high = {9: (57, 98), 10: (60, 98), 11: (62, 98), 12: (65, 99)}[len(validation)]
    assert f"Validation has {len(validation)} images" in caplog.text
    assert f"a 95 % interval of {low} to {high} %" in caplog.text
    caplog.clear()
    open_split(recipe, few_images, few_images.charset, "train")
    assert not caplog.text
