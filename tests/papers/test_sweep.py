"""Sweeps as a user runs them: every combination, going on, and what is refused."""

import re

import cv2
import numpy as np
import pandas as pd
import pytest

from hccr_tf import get_recipe
from hccr_tf.cli.main import main
from hccr_tf.inference.predictor import Predictor
from hccr_tf.papers import base
from hccr_tf.papers.sweep import sweep
from hccr_tf.runs.workdir import Workdir

SMALL = ["--image-size", "16", "--model.width", "4", "--epochs", "1", "--samples-per-class", "4"]


@pytest.mark.slow
@pytest.mark.integration
def test_every_combination_is_a_run_and_none_is_trained_twice(sample_store, tmp_path, monkeypatch):
    folder = tmp_path / "grid"
    command = ["sweep", "convnet", "--data", str(sample_store.path), "--workdir", str(folder)]
    command += [*SMALL, "--model.pooled", "mean", "max", "--seed", "1"]
    command += ["--model.blocks", "[1,1,1]", "--split", "test"]
    # Killed in the second run: the next one isn't there yet.
    train = base.train

    def killed(recipe, store, path, **circumstances):
        if path.name == "model.pooled=max":
            raise KeyboardInterrupt
        return train(recipe, store, path, **circumstances)

    with monkeypatch.context() as patch:
        patch.setattr(base, "train", killed)
        assert main(command) == 130
    table = pd.read_csv(folder / "sweep.csv")
    assert table["state"].tolist() == ["finished", "not run"]
    first = folder / "model.pooled=mean"
    times = (first / "history.csv").stat().st_mtime_ns
    assert main(command) == 0
    assert (first / "history.csv").stat().st_mtime_ns == times
    table = pd.read_csv(folder / "sweep.csv")
    assert table["state"].tolist() == ["finished"] * 2
    assert table["model.pooled"].tolist() == ["mean", "max"]
    for row in table.to_dict("records"):
        run = Workdir(folder / f"model.pooled={row['model.pooled']}")
        (history,) = run.read_history()
        assert row["val_accuracy"] == pytest.approx(history["val_main_output_accuracy"], abs=1e-4)
        assert row["train_loss"] == pytest.approx(history["loss"], abs=1e-4)
        assert run.recipe.model_args["pooled"] == row["model.pooled"]
        predictor = Predictor(run.path)
        indices = sample_store.indices("test")
        images = predictor.preprocessing.apply_many([sample_store.image(int(i)) for i in indices])
        labels = sample_store.labels[indices]
        right = (predictor.logits(images).argmax(axis=1) == labels).mean()
        assert row["accuracy"] == pytest.approx(100 * right, abs=1e-2)
    image = cv2.imread(str(folder / "sweep.png"))
    assert image is not None and np.ptp(image) > 200


@pytest.mark.slow
@pytest.mark.integration
def test_a_run_that_diverges_does_not_end_the_sweep(sample_store, tmp_path):
    recipe = get_recipe("yang_convnet").override(
        image_size=16, **{"model.width": 4}, epochs=2, samples_per_class=8, batch_size=8
    )
    grid = {"learning_rate": [1e30, 1e-3], "seed": [3]}
    table = sweep(recipe, grid, sample_store, tmp_path)
    assert table["state"].tolist() == ["diverged", "finished"]
    assert table["seed"].tolist() == ["3", "3"]
    diverged = tmp_path / "learning_rate=1e+30,seed=3" / "diverged.json"
    diverged.unlink()  # It isn't tried again.
    assert sweep(recipe, grid, sample_store, tmp_path).equals(table)
    assert not diverged.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "at least one setting"),
        (["--seed", "1"], "at least one setting"),
        (
            ["--model.depth", "3", "4"],
            "No argument of convnet is called 'depth'. Did you mean width",
        ),
        (["--seed", "1", "1"], "one value twice"),
        (["--epochs", "0", "1"], "epochs is at least 1"),
        (["--model.pooled", "mean", "median"], 'pooled is "mean" or "max"'),
        (["--stages", "backbone:1", "900:1"], "freezes 900 layers, and the backbone has"),
        (["--loss", "cross_entropy", "hinge"], "No loss is called 'hinge'"),
        (["--seed", "1", "2", "--init-from", "run", "--weights", "imagenet"], "not with both"),
    ],
)
def test_refused_before_anything_is_trained(sample_store, tmp_path, capsys, settings, message):
    folder = tmp_path / "grid"
    command = ["sweep", "convnet", "--data", str(sample_store.path), "--workdir", str(folder)]
    assert main([*command, *settings]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not folder.exists()
