"""What tables take, before anything is trained."""

import shutil

import pytest

from hccr_tf.cli.main import main
from hccr_tf.papers import forecast
from hccr_tf.papers.base import Cell
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.plan import Cost

pytestmark = pytest.mark.integration


def test_a_dry_run_sums_up_what_a_table_takes(brick_run, tmp_path, capsys, monkeypatch):
    shutil.copytree(brick_run, tmp_path / "runs" / "model2")
    tried = []
    monkeypatch.setattr(forecast, "dry_run", lambda recipe, store: tried.append(recipe) or 120)
    command = ["reproduce", "kriuk_table1", "--scale", "smoke", "--out", str(tmp_path / "table")]
    main([*command, "--dry-run"])
    first, *rows, total = capsys.readouterr().out.splitlines()[-5:]
    assert first.split()[:3] == ["cell", "state", "epochs"]
    assert [row.split()[:2] for row in rows[::2]] == [["model1", "not"], ["model3", "not"]]
    assert rows[1].split()[:2] == ["model2", "finished"]
    # The two differ by blur alone, so that one of them tells the time of both.
    assert [recipe.name for recipe in tried] == ["brick_model1"]
    assert total.startswith(f"2 of 3 runs are to be trained in {tmp_path / 'runs'}: about 4 min")
    assert not (tmp_path / "table").exists()
    main([*command, "--dry-run", "--only", "model2"])
    assert "Nothing is to be trained: 1 runs are there." in capsys.readouterr().out


def test_what_a_machine_has_too_little_memory_for_isnt_tried(monkeypatch, tmp_path, sample_store):
    monkeypatch.setattr(forecast, "dry_run", lambda recipe, store: None)
    table = forecast.forecast([Cell("one", "kriuk_model1")], sample_store, tmp_path)
    assert table["time"].tolist() == ["not known"]
    assert "1 that isn't known" in forecast.describe(table, tmp_path)


def test_a_run_on_disk_is_as_large_as_said(brick_run):
    run = Workdir(brick_run)
    (checkpoint, *_) = sorted(run.checkpoints.glob("step-*"))
    weights = run.best_weights.stat().st_size + run.prediction_weights.stat().st_size
    size = 2 * checkpoint.stat().st_size + weights
    assert 0.7 < size / Cost.of(run.recipe, len(run.charset)).disk <= 1.05
