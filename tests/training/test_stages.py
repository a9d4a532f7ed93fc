"""Runs in stages: what learns when, what ends a stage, and going on at any place."""

import signal
import time
from itertools import zip_longest

import keras
import numpy as np
import pandas as pd
import pytest
from keras2_files import write_keras2
from safetensors.numpy import load_file

from hccr_tf import get_recipe, train
from hccr_tf.cli.main import main
from hccr_tf.models import MAIN_OUTPUT, backbone_layers, blueprint, create_model
from hccr_tf.models.weights import WeightsError, read_attributes, read_checksum
from hccr_tf.recipe import Recipe, Stage, Stages
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.checkpoints import Checkpoints
from hccr_tf.training.schedules import learning_rate
from hccr_tf.training.signals import Interrupted
from hccr_tf.training.stages import MONITOR, best_epoch, current_stage, freeze, is_finished
from hccr_tf.training.trainer import Trainer

NETWORK = {"width": 4, "blocks": [1, 1, 1]}
STAGES = (Stage(2, "backbone"), Stage(1, 9, 1e-4), Stage(1))


def tiny(**settings):
    settings = {"stages": STAGES, "patience": 9, **settings}
    return get_recipe("transfer").override(
        model="convnet", model_args=NETWORK, image_size=16, batch_size=16, **settings
    )


def rows(*accuracies, losses=()):
    return [
        {MONITOR: value, "val_main_output_loss": loss}
        for value, loss in zip_longest(accuracies, losses, fillvalue=1.0)
    ]


def values(path):
    arrays = load_file(path)
    return {name.removeprefix("model/"): array for name, array in arrays.items()}


# === By the history alone ===


def test_stages_follow_one_another():
    for epochs, expected in enumerate([(0, 0), (0, 0), (1, 2), (2, 3), (3, 3)]):
        history = rows(0.1, 0.2, 0.3, 0.4)[:epochs]
        assert current_stage(history, tiny()) == expected
        assert is_finished(history, tiny()) == (epochs == 4)


def test_patience_ends_a_stage_and_not_the_run():
    recipe = tiny(stages=(Stage(5, "backbone"), Stage(5)), patience=2)
    history = rows(0.5, 0.4, 0.3)
    assert current_stage(history, recipe) == (1, 3)
    # The second stage is measured by itself, though it isn't better yet than the first.
    assert current_stage([*history, *rows(0.1, 0.2, 0.3)], recipe) == (1, 3)
    assert is_finished([*history, *rows(0.3, 0.2, 0.1)], recipe)


def test_of_equal_epochs_the_one_with_the_lowest_loss_is_best():
    history = rows(0.5, 0.9, 0.9, 0.9, 0.7, losses=(0.1, 0.5, 0.3, 0.3, 0.1))
    assert best_epoch(history) == 2
    # Patience goes by the accuracy, which isn't better.
    recipe = get_recipe("convnet").override(epochs=9, patience=2, schedule="constant")
    assert not is_finished(history[:3], recipe) and is_finished(history[:4], recipe)


def test_without_stages_it_is_one():
    recipe = get_recipe("convnet").override(epochs=3, patience=2)
    assert current_stage(rows(0.1, 0.2), recipe) == (0, 0)
    assert is_finished(rows(0.3, 0.2, 0.1), recipe)
    assert is_finished(rows(0.1, 0.2, 0.3), recipe)


def test_each_stage_has_its_own_rate():
    recipe = tiny(schedule="constant", warmup_steps=0)
    rates = [learning_rate(recipe, 10, stage) for stage in recipe.stages]
    assert rates == [1e-3, 1e-4, 1e-3]
    cosines = [learning_rate(tiny(warmup_steps=0), 10, stage) for stage in recipe.stages]
    for schedule, peak, steps in zip(cosines, rates, (20, 10, 10), strict=True):
        values = [float(keras.ops.convert_to_numpy(schedule(s))) for s in (0, steps // 2, steps)]
        assert values == pytest.approx([peak, peak / 2, 0], abs=1e-9)


# === As data ===


def test_stages_of_a_text():
    assert Stages("backbone:10,100:5:1e-4") == (Stage(10, "backbone"), Stage(5, 100, 1e-4))
    assert Stages("none") == ()
    for text in ("backbone", "backbone:1:2:3", "head:10", "3:0", "-1:2", "1:1:-0.1"):
        with pytest.raises(ValueError):
            Stages(text)


def test_epochs_are_those_of_the_stages():
    assert tiny().epochs == 4
    assert tiny(stages=()).epochs == 20
    with pytest.raises(ValueError, match=r"have 4 epochs together, not 7; --stages sets them"):
        tiny(epochs=7)
    with pytest.raises(ValueError, match="it has no stages"):
        tiny(schedule="stall", warmup_steps=0)
    copy = Recipe.from_dict(tiny().to_dict())
    assert copy == tiny() and copy.stages == STAGES


def test_layers_are_counted_from_the_image():
    model = blueprint("efficientnet_v2s", num_classes=5, units=8)
    layers = backbone_layers(model)
    freeze(layers, 100)
    assert [layer.trainable for layer in layers] == [False] * 100 + [True] * 413
    assert model.get_layer(MAIN_OUTPUT).trainable
    freeze(layers, "backbone")
    assert len(model.trainable_variables) == 4  # two dense layers
    freeze(layers, 0)
    assert len(model.trainable_variables) > 400
    with pytest.raises(ValueError, match="freezes 600 layers, and the backbone has 513"):
        freeze(layers, 600)


# === Trained ===


@pytest.fixture(scope="module")
def after_each_epoch(sample_store, tmp_path_factory):
    """Weights of a run in stages, fresh ones and those after every epoch; and the run."""
    recipe, found = tiny(), []
    end_epoch = Trainer._end_epoch

    def note(self, epoch, metrics):
        end_epoch(self, epoch, metrics)
        found.append({v.path: keras.ops.convert_to_numpy(v) for v in self.model.weights})

    keras.utils.set_random_seed(recipe.seed)
    fresh = create_model("convnet", num_classes=15, image_shape=(16, 16, 1), **NETWORK)
    found.append({v.path: keras.ops.convert_to_numpy(v) for v in fresh.weights})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_end_epoch", note)
        run = train(recipe, sample_store, tmp_path_factory.mktemp("run"))
    return found, run


def interrupt(patch, epoch, method):
    """Has a signal come in an epoch, counted from 0, as one of the trainer's methods is called."""
    original = getattr(Trainer, method)

    def asked(self, at, *arguments):
        if at == epoch:
            self._stop.number, self._stop.since = signal.SIGTERM, time.monotonic()
        original(self, at, *arguments)

    patch.setattr(Trainer, method, asked)


def changed(before, after):
    return {name.split("/")[0] for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.integration
def test_only_what_is_not_frozen_learns(after_each_epoch):
    weights, _ = after_each_epoch
    model = create_model("convnet", num_classes=15, image_shape=(16, 16, 1), **NETWORK)
    frozen = {layer.name for layer in backbone_layers(model)[:9]}
    everything = {layer.name for layer in model.layers if layer.weights}
    # First the classifier only: batch normalisation's statistics stay as they are too.
    assert changed(weights[0], weights[1]) == {MAIN_OUTPUT}
    assert changed(weights[1], weights[2]) == {MAIN_OUTPUT}
    assert changed(weights[2], weights[3]) == everything - frozen
    assert {"block1_conv1", "block1_bn1"} <= frozen
    assert changed(weights[3], weights[4]) == everything


@pytest.mark.integration
def test_other_patience_would_move_stages_that_are_done(after_each_epoch, sample_store):
    _, run = after_each_epoch
    run.update_run(state="running")
    with pytest.raises(ValueError, match="another recipe.*patience: 3, 9"):
        train(tiny(patience=3), sample_store, run.path)
    run.update_run(state="finished")


@pytest.mark.integration
def test_each_stage_has_its_rate_and_schedule(after_each_epoch):
    _, run = after_each_epoch
    history = pd.read_csv(run.history_path)
    rates = history["learning_rate"].tolist()
    # The cosine ends with each stage.
    assert 1e-4 < rates[0] <= 1e-3 and max(rates[1:]) < 1e-9
    steps = history["step"].tolist()
    assert steps == [steps[0] * i for i in (1, 2, 3, 4)]
    assert run.read_run()["state"] == "finished"


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize(
    ("epoch", "method", "position"),
    [(1, "_end_epoch", (2, 0)), (3, "_begin_epoch", (3, 1))],
    ids=["between two stages", "within a later one"],
)
def test_stopped_it_goes_on_as_one_that_was_not(
    after_each_epoch, sample_store, tmp_path, monkeypatch, epoch, method, position
):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt(patch, epoch, method)
        train(tiny(), sample_store, tmp_path)
    stored = read_attributes(Checkpoints(tmp_path / "checkpoints").paths()[0])
    assert (stored["epoch"], stored["step"]) == position
    runs = train(tiny(), sample_store, tmp_path), after_each_epoch[1]
    # Threads add in any order, so equal to rounding here and not bit by bit.
    ours, theirs = (pd.read_csv(run.history_path).to_numpy() for run in runs)
    np.testing.assert_allclose(ours, theirs, rtol=5e-3, atol=1e-5)
    ours, theirs = (values(Checkpoints(run.checkpoints).paths()[0]) for run in runs)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-2, atol=1e-4, err_msg=name)


# === What a run begins with ===


@pytest.mark.integration
def test_another_runs_weights_are_taken_and_named(after_each_epoch, sample_store, tmp_path):
    _, source = after_each_epoch
    recipe = tiny(stages=(Stage(1, "backbone"),), learning_rate=1e-12)
    run = train(recipe, sample_store, tmp_path, init_from=source.path)
    assert run.read_run()["init_from"] == str(source.path)
    assert run.read_run()["init_recipe"] == "transfer"
    with pytest.raises(ValueError, match=r"begun with another --init-from \(.*, not none\)"):
        train(recipe, sample_store, tmp_path)
    assert run.read_run()["init_weights_sha256"] == read_checksum(source.best_weights)
    before, after = values(source.best_weights), values(run.best_weights)
    assert changed(before, after) <= {MAIN_OUTPUT}


@pytest.mark.integration
def test_what_does_not_fit_leaves_no_run(after_each_epoch, sample_store, tmp_path):
    _, source = after_each_epoch
    other = get_recipe("transfer").override(
        model="mrbc", image_size=16, **{"model.width": 4}, stages=()
    )
    with pytest.raises(WeightsError, match="doesn't fit this model"):
        train(other, sample_store, tmp_path, init_from=source.path)
    assert not Workdir(tmp_path).exists()


@pytest.mark.slow
@pytest.mark.integration
def test_weights_from_a_file_are_needed_only_to_begin(sample_store, tmp_path, capsys):
    run = tmp_path / "run"
    missing = "train transfer --model applications:MobileNetV3Small --image-size 32".split()
    missing += "--samples-per-class 4 --stages backbone:1".split()
    missing += ["--data", str(sample_store.path), "--workdir", str(run)]
    missing += ["--weights", str(tmp_path / "notop.h5")]
    assert main(missing) == 2
    assert "no weights file" in capsys.readouterr().err
    # Nothing was begun that other settings would contradict.
    network = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    layers = {layer.name: layer for layer in network.layers if layer.weights}
    write_keras2(tmp_path / "notop.h5", layers)
    given = {v.path: keras.ops.convert_to_numpy(v) for v in network.weights}
    assert main(missing) == 0
    (tmp_path / "notop.h5").rename(tmp_path / "elsewhere.h5")
    trained = values(run / "best.safetensors")
    for name, value in given.items():
        np.testing.assert_array_equal(trained[name], value)
    assert main(missing) == 0
    printed = capsys.readouterr().out
    assert "is finished; nothing to do. Another --workdir with --init-from" in printed
    Workdir(run).update_run(state="running")
    assert main(missing) == 0
    assert "Going on in" in capsys.readouterr().out
