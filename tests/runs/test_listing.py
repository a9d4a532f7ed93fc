import pandas as pd
import pytest

from hccr_tf import get_recipe
from hccr_tf.cli.main import main
from hccr_tf.runs.listing import compare, find_runs, run_state, runs_table
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.files import exclusive_lock


@pytest.fixture
def runs(sample_store, tmp_path):
    """Two runs with histories written by hand, one of them in a deeper folder."""
    for name, gamma, accuracies in (("a", 2.0, (0.5, 0.7)), ("deep/b", 4.0, (0.6,))):
        workdir = Workdir(tmp_path / name)
        recipe = get_recipe("kriuk_model1").override(**{"loss.gamma": gamma}, epochs=2)
        workdir.begin(recipe, sample_store.charset, sample_store.data_hash, sample_store.path)
        history = pd.DataFrame({"epoch": range(1, len(accuracies) + 1)})
        history["step"] = 10 * history["epoch"]
        for prefix in ("", "val_"):
            history[f"{prefix}main_output_loss"] = 1 / history["epoch"]
            history[f"{prefix}main_output_accuracy"] = accuracies
        history.to_csv(workdir.history_path, index=False)
        workdir.update_run(
            state="finished" if len(history) == 2 else "running",
            epochs_done=len(history),
            best_epoch=len(history),
            best_val_accuracy=max(accuracies),
        )
    return tmp_path


def test_runs_are_listed_with_state_and_result(runs):
    table = runs_table(runs).set_index("run")
    assert list(table.index) == ["a", "deep/b"]
    shown = ["finished", "2/2", "70.00 %", "2"]
    assert table.loc["a", ["state", "epochs", "best", "at"]].tolist() == shown
    assert table.loc["deep/b", "state"] == "stopped"
    with exclusive_lock(runs / "deep" / "b" / "lock", "busy"):
        assert run_state(Workdir(runs / "deep" / "b")) == "running"


def test_a_comparison_says_what_differs_and_draws_it(runs, tmp_path):
    image = tmp_path / "c.png"
    lines = compare(runs / "a", runs / "deep" / "b", image)
    assert "recipe      loss_args.gamma: 2.0, 4.0" in lines
    assert any("best validation accuracy 70.00 % at epoch 2" in line for line in lines)
    assert image.read_bytes().startswith(b"\x89PNG")


def test_folders_without_runs_say_so(tmp_path):
    with pytest.raises(ValueError, match="There's no run in"):
        find_runs(tmp_path)
    with pytest.raises(FileNotFoundError):
        find_runs(tmp_path / "missing")


def test_the_command(runs, capsys):
    assert main(["runs", str(runs)]) == 0
    assert "deep/b" in capsys.readouterr().out
    assert main(["runs", str(runs), "--compare", "a", "deep/b"]) == 0
    assert (runs / "compared.png").exists()
    assert main(["runs", str(runs), "--compare", "a", "missing"]) == 2
