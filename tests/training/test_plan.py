"""What a run takes is said before its first step, and the time left while it lasts."""

import logging
from types import SimpleNamespace

import keras
import pytest

from hccr_tf import get_recipe
from hccr_tf.cli.main import main
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training import plan, reports
from hccr_tf.training.checkpoints import Position
from hccr_tf.training.compilation import build_network, compile_network
from hccr_tf.training.keras_data import InputWait, open_split

SMALL = {"image_size": 16, "model.num_bricks": 2, "model.width": 16}


class Split:
    """A loader's numbers."""

    def __init__(self, images: int, batch_size: int, num_classes: int = 3):
        self.images, self.batch_size, self.charset = images, batch_size, range(num_classes)
        self.steps_per_epoch = -(-images // batch_size)

    def __len__(self):
        return self.images


@pytest.fixture
def now(monkeypatch):
    time = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("time.monotonic", lambda: time.seconds)
    return time


def test_time_left_is_of_steps_and_validations(now):
    clock = plan.Clock(Split(100, 10), Split(30, 10), epochs=3)
    clock.begin(0)
    now.seconds += 60  # compiles
    clock.advance()
    assert clock.left() is None
    for _ in range(2):
        now.seconds += 2
        clock.advance()
    # 27 steps of 2 s, and three validations of three steps forward.
    assert clock.left() == pytest.approx(27 * 2 + 3 * 3 * 2 / 3)
    for _ in range(7):
        now.seconds += 2
        clock.advance()
    now.seconds += 5
    clock.end_epoch()
    assert clock.left() == pytest.approx(20 * 2 + 2 * 5)
    clock.begin(2, step=9)  # the last step of the last epoch, whose first compiles
    now.seconds += 2
    clock.advance()
    clock.end_epoch()
    assert clock.left() == 0


def test_time_left_ends_with_a_limit(now):
    clock = plan.Clock(Split(100, 10), Split(30, 10), epochs=3, deadline=now.seconds + 20)
    clock.begin(0)
    for step, (steps, left) in enumerate(((1, None), (4, 16), (4, 12), (1, 8))):
        now.seconds += 4 * (step > 0)
        clock.advance(steps)
        assert clock.left() == left


@pytest.mark.parametrize(
    ("devices", "seconds", "warns"),
    [(["cpu:0"], 90_000, True), (["cpu:0"], 80_000, False), (["gpu:0"], 90_000, False)],
)
def test_over_a_day_without_a_gpu_is_warned_of(devices, seconds, warns, monkeypatch, caplog):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: devices)
    assert plan.warn_if_long(seconds) == warns
    assert ("No GPU was found" in caplog.text and "1 d 1 h" in caplog.text) == warns


def test_the_papers_run_is_described_without_its_memory():
    text = plan.describe(get_recipe("kriuk_model1"), Split(3_000_000, 128, 7330), Split(99, 128))
    assert "23,438 steps of 128 an epoch, 468,760 in 20 epochs" in text
    assert "406,894,284 parameters" in text
    assert "6.5 for weights, gradients and the optimiser" in text  # four times the parameters


@pytest.mark.integration
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_memory_is_that_of_the_network_and_its_optimizer(optimizer, sample_store):
    arguments = {"optimizer": optimizer, "optimizer_args": {}}
    recipe = get_recipe("kriuk_model1").override(SMALL, **arguments)
    if optimizer == "sgd":
        recipe = recipe.override({"optimizer.momentum": 0.9})
    split = open_split(recipe, sample_store, sample_store.charset, "train")
    model = build_network(recipe, len(split.charset), None)
    compile_network(model, recipe, recipe.all_stages()[0], split)
    held = [*model.variables, *model.optimizer.variables, *model.trainable_variables]
    bytes_held = sum(v.value.numpy().nbytes for v in held)
    assert f"{bytes_held / 1e9:.2g} for weights" in plan.describe(recipe, split, split)


@pytest.mark.slow
def test_dry_run_says_what_a_run_takes_and_writes_nothing(sample_store, tmp_path, capsys):
    settings = ["--image-size", "16", "--model.width", "4", "--samples-per-class", "8"]
    command = ["train", "resnet", *settings, "--data", str(sample_store.path)]
    main([*command, "--workdir", str(tmp_path / "run"), "--dry-run"])
    printed = capsys.readouterr().out
    assert "resnet: 120 training and" in printed
    assert "of 15 classes, 2 steps of 64 an epoch, 20 in 10 epochs" in printed
    assert "By 3 steps, training takes about" in printed
    assert not (tmp_path / "run").exists()


def test_a_log_has_a_line_a_minute_with_the_time_left(now, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    splits = Split(1000, 10), Split(100, 10)
    report = reports.Report(Workdir(tmp_path), 2, *splits, Position(), InputWait())
    report.on_epoch_begin(0)
    for step in range(26):
        now.seconds += 5
        report.on_train_batch_end(step, {"loss": 1.5, "main_output_accuracy": 0.25})
    report.close()
    first, *lines = caplog.messages
    assert first.startswith("epoch 1/2, step 2/100: loss 1.5000, accuracy 25.00 %, 2 images/s")
    steps = [line.split(": ")[0] for line in lines]
    assert steps == ["epoch 1/2, step 14/100", "epoch 1/2, step 26/100"]
    assert lines[-1].endswith(", 15 min left in all")  # 174 steps of 5 s, and validations
