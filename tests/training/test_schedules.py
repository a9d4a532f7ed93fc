"""Rates of the schedule "stall", alone and in runs on both backends."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from hccr_tf import get_recipe
from hccr_tf.training.schedules import learning_rate, stall_rate


def history(*accuracies, steps=10):
    return [
        {"step": steps * (i + 1), "main_output_accuracy": accuracy}
        for i, accuracy in enumerate(accuracies)
    ]


def test_the_papers_rates():
    # 0.1 for one epoch, 0.01 after it, and a tenth after each epoch that doesn't gain.
    assert stall_rate(0.1, 10, [], 0) == stall_rate(0.1, 10, [], 9) == 0.1
    assert stall_rate(0.1, 10, history(0.5), 10) == pytest.approx(0.01)
    # The first epoch itself is no stall, however bad.
    assert stall_rate(0.1, 10, history(0.5, 0.6), 20) == pytest.approx(0.01)
    assert stall_rate(0.1, 10, history(0.5, 0.6, 0.6), 30) == pytest.approx(0.001)
    assert stall_rate(0.1, 10, history(0.5, 0.6, 0.6, 0.7), 40) == pytest.approx(0.001)
    # Less than 0.0001 is no gain; what counts is the best so far, not the epoch before.
    assert stall_rate(0.1, 10, history(0.5, 0.6, 0.60005), 30) == pytest.approx(0.001)
    assert stall_rate(0.1, 10, history(0.5, 0.8, 0.6, 0.7), 40) == pytest.approx(1e-4)
    assert stall_rate(0.1, 10, history(*[0.5] * 20), 200) == 1e-6


def test_the_first_phase_counts_steps():
    # It ends within the third epoch, which began in it and can't stall.
    flat = history(0.5, 0.5, 0.5)
    assert stall_rate(0.1, 25, flat[:2], 24) == 0.1
    assert stall_rate(0.1, 25, flat[:2], 25) == pytest.approx(0.01)
    assert stall_rate(0.1, 25, flat, 30) == pytest.approx(0.01)
    assert stall_rate(0.1, 25, [*flat, *history(0, 0, 0, 0.5)[3:]], 40) == pytest.approx(0.001)


def test_without_a_first_phase_the_peak_lasts_until_a_stall():
    assert stall_rate(0.01, 0, history(0.5, 0.6), 20) == 0.01
    assert stall_rate(0.01, 0, history(0.5, 0.5), 20) == pytest.approx(0.001)


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


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_run_has_these_rates_also_when_it_goes_on(backend, sample_store, tmp_path):
    pytest.importorskip(backend)
    command = [
        sys.executable, "-m", "hccr_tf", "train", "kriuk_model1", "--data", str(sample_store.path),
        "--image-size", "16", "--bricks", "2", "--width", "16", "--batch-size", "64",
        "--schedule", "stall", "--learning-rate", "0.1",
    ]  # fmt: skip
    environment = {**os.environ, "KERAS_BACKEND": backend}

    def run(workdir, *arguments):
        done = subprocess.run(
            [*command, "--workdir", str(tmp_path / workdir), *arguments],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return pd.read_csv(tmp_path / workdir / "history.csv")

    # Six steps an epoch: the first phase ends within the second one.
    first = run("run", "--first-steps", "8", "--epochs", "1")
    assert first["learning_rate"].tolist() == pytest.approx([0.1])
    rows = run("run", "--first-steps", "8", "--epochs", "5").to_dict("records")
    steps = rows[0]["step"]
    assert 4 < steps < 8 < 2 * steps
    for i, row in enumerate(rows):
        expected = stall_rate(0.1, 8, rows[:i], row["step"] - 1)
        assert row["learning_rate"] == pytest.approx(expected, rel=1e-5)
    assert rows[1]["learning_rate"] == pytest.approx(0.01)
