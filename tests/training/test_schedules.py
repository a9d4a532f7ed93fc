"""Rates of the schedule "stall", alone and in runs; tests/parity has these on JAX too."""

import os
import signal

import keras
import pytest

from hccr_tf import get_recipe, train
from hccr_tf.recipe import Stage
from hccr_tf.training.reports import current_rate
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
    schedule = learning_rate(get_recipe("yang_mrbc"), 190, Stage(3))
    rates = [float(schedule(step)) for step in (0, 189, 190, 379, 380)]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4])


@pytest.mark.slow
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
        # On JAX the rate is in the steps' state until the epoch's end.
        on_jax = keras.backend.backend() == "jax"
        rates.append((step, None if on_jax else current_rate(self.model)))
        end_step(self, loss)
        if len(rates) == stopped_at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_end_step", watch)
        with pytest.raises(Interrupted):
            train(recipe, sample_store, tmp_path / "run")
        begun = len(rates)
        assert begun in (stopped_at, stopped_at + 1)  # the signal comes between two steps
        run = train(recipe, sample_store, tmp_path / "run")
    assert [step for step, _ in rates] == list(range(18))
    for step, found in rates[:12]:
        assert found is None or found == pytest.approx(0.1 if step < 8 else 0.01)
    assert [row["learning_rate"] for row in run.read_history()[:2]] == pytest.approx([0.1, 0.01])
