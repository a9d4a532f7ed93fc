"""Runs that are asked to stop, or were killed before all was written, go on; see tests/e2e too."""

import os
import re
import signal

import pandas as pd
import pytest

from hccr_tf import train
from hccr_tf.cli.main import main
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.checkpoints import Checkpoints
from hccr_tf.training.trainer import Trainer
from hccr_tf.utils.files import exclusive_lock

pytestmark = pytest.mark.integration


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_asked_to_stop_it_saves_and_says_how_to_go_on(
    sample_store, tmp_path, number, code, monkeypatch, capsys
):
    run = Workdir(tmp_path / "run")
    command = ["train", "kriuk_model1", "--data", str(sample_store.path)]
    command += ["--workdir", str(run.path), "--epochs", "2"]
    command += "--image-size 16 --model.num_bricks 2 --model.width 16 --batch-size 32".split()
    end_step = Trainer._end_step

    def kill(self, loss):
        if self.position.step == 3:
            os.kill(os.getpid(), number)
        end_step(self, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_end_step", kill)
        assert main(command) == code
    errors = capsys.readouterr().err
    said = re.search(
        r"Stopped in epoch 1 after (\d) of its (\d+) steps, saved in (\S+)\. The same command "
        r"goes on there",
        errors,
    )
    assert said and "Traceback" not in errors, errors
    step, steps = int(said[1]), int(said[2])
    newest = Checkpoints(run.checkpoints).paths()[0]
    # Nothing is lost: the checkpoint is that of the very step.
    assert step in (4, 5) and said[3] == str(newest)
    assert newest.name == f"step-{step:09d}.safetensors"
    if number == signal.SIGINT:
        return
    with exclusive_lock(run.lock_path, "busy"):
        assert main(command) == 2
    assert "another process trains in" in capsys.readouterr().err
    assert main(command) == 0
    assert f"Going on in {run.path} from epoch" in capsys.readouterr().out
    history = pd.read_csv(run.history_path)
    assert history["step"].tolist() == [steps, 2 * steps]


@pytest.mark.slow
def test_best_weights_that_a_kill_prevented_are_written_on_going_on(
    brick_run, sample_store, tmp_path
):
    recipe = Workdir(brick_run).recipe.override(epochs=1)
    run = train(recipe, sample_store, tmp_path)
    missing = [run.best_weights, run.prediction_weights, run.history_path]
    for path in missing:
        path.unlink()
    run.update_run(state="running")
    train(recipe, sample_store, run.path)
    assert all(path.exists() for path in missing)
    assert run.read_run()["state"] == "finished"
