"""Rates of the schedule "stall", alone and in runs on both backends."""

import os
import signal
import subprocess
import sys

import pandas as pd
import pytest

from hccr_tf import get_recipe, train
from hccr_tf.training.schedules import learning_rate, stall_rate
from hccr_tf.training.signals import Interrupted
from hccr_tf.training.trainer import Trainer


def rate(step, *accuracies, peak=0.1, first=10):
    return stall_rate(peak, first, accuracies, 10, step)


def test_the_papers_rates():
    # 0.1 for one epoch, 0.01 after it, and a tenth after each epoch that doesn't gain.
    assert rate(0) == rate(9) == 0.1
    assert rate(10, 0.5) == pytest.approx(0.01)
    # The first epoch itself is no stall, however bad.
    assert rate(20, 0.5, 0.6) == pytest.approx(0.01)
    assert rate(30, 0.5, 0.6, 0.6) == pytest.approx(0.001)
    assert rate(40, 0.5, 0.6, 0.6, 0.7) == pytest.approx(0.001)
    # Less than 0.0001 is no gain; what counts is the best so far, not the epoch before.
    assert rate(30, 0.5, 0.6, 0.60005) == pytest.approx(0.001)
    assert rate(40, 0.5, 0.8, 0.6, 0.7) == pytest.approx(1e-4)
    assert rate(200, *[0.5] * 20) == 1e-6
    # Without a first phase the peak lasts until a stall.
    assert rate(20, 0.5, 0.6, peak=0.01, first=0) == 0.01
    assert rate(20, 0.5, 0.5, peak=0.01, first=0) == pytest.approx(0.001)


def test_the_first_phase_counts_steps():
    # It ends within the third epoch, which began in it and can't stall.
    assert rate(24, 0.5, 0.5, first=25) == 0.1
    assert rate(25, 0.5, 0.5, first=25) == pytest.approx(0.01)
    assert rate(30, 0.5, 0.5, 0.5, first=25) == pytest.approx(0.01)
    assert rate(40, 0.5, 0.5, 0.5, 0.5, first=25) == pytest.approx(0.001)


def test_warm_up_and_negative_steps_are_refused():
    recipe = get_recipe("melnyk_c")
    with pytest.raises(ValueError, match="begins at its peak"):
        recipe.override(warmup_steps=10)
    with pytest.raises(ValueError, match="first_steps is at least 0"):
        recipe.override(first_steps=-1)


def test_halving_each_epoch():
    schedule = learning_rate(get_recipe("yang_mrbc"), steps_per_epoch=190)
    rates = [float(schedule(step)) for step in (0, 189, 190, 379, 380)]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4])


@pytest.mark.parity
def test_a_run_on_jax_has_these_rates_also_when_it_goes_on(sample_store, tmp_path):
    pytest.importorskip("jax")
    settings = (
        "--image-size 16 --model.num_bricks 2 --model.width 16 --batch-size 64 --schedule stall"
    )
    command = [sys.executable, "-m", "hccr_tf", "train", "kriuk_model1", *settings.split()]
    command += ["--learning-rate", "0.1", "--first-steps", "8", "--data", str(sample_store.path)]

    def run(epochs):
        done = subprocess.run(
            [*command, "--workdir", str(tmp_path), "--epochs", str(epochs)],
            env={**os.environ, "KERAS_BACKEND": "jax"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return pd.read_csv(tmp_path / "history.csv")

    # Six steps an epoch: the first phase ends within the second one.
    first, rows = (run(epochs) for epochs in (1, 5))
    assert first["step"].tolist() == [6]
    assert first["learning_rate"].tolist() == pytest.approx([0.1])
    assert rows["learning_rate"][1] == pytest.approx(0.01)
    divisions = 1
    accuracies = rows["main_output_accuracy"].tolist()
    for epoch in range(2, 5):
        # The second epoch began in the first phase; later ones can stall.
        if epoch > 2 and accuracies[epoch - 1] <= max(accuracies[: epoch - 1]) + 1e-4:
            divisions += 1
        assert rows["learning_rate"][epoch] == pytest.approx(0.1 / 10**divisions, rel=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize("stopped_at", [7, 9])
def test_it_goes_on_within_an_epoch(sample_store, tmp_path, stopped_at):
    """Stopped before the first phase ends within an epoch, and after it."""
    recipe = get_recipe("kriuk_model1").override(
        image_size=16,
        **{"model.num_bricks": 2, "model.width": 16},
        batch_size=64,
        schedule="stall",
        learning_rate=0.1,
        first_steps=8,
        epochs=3,
    )
    rates, end_step = [], Trainer._end_step

    def watch(self, loss):
        step = 6 * self.position.epoch + self.position.step
        rates.append((step, float(self.model.optimizer.learning_rate)))
        end_step(self, loss)
        if len(rates) == stopped_at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_end_step", watch)
        with pytest.raises(Interrupted):
            train(recipe, sample_store, tmp_path / "run")
        begun = len(rates)
        assert begun in (stopped_at, stopped_at + 1)  # the signal comes between two steps
        train(recipe, sample_store, tmp_path / "run")
    assert [step for step, _ in rates] == list(range(18))
    for step, found in rates[:12]:
        assert found == pytest.approx(0.1 if step < 8 else 0.01)
