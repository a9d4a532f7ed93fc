"""`hccr reproduce` for Yang et al. 2017, on runs of the sample."""

import pandas as pd
import pytest

from hccr_tf import get_recipe, train
from hccr_tf.cli.main import main
from hccr_tf.papers.yang_2017.experiments import gain_of_refinement


def test_gain_is_over_the_same_settings_or_the_recipes():
    rows = [
        ("mrbc", "", 1, 60.0),
        ("mrbc", "", 2, 50.0),
        ("mrbc", "pooled", 1, 80.0),
        ("mrbc", "width", 1, 70.0),
        ("mrbc_ir", "", 1, 90.0),
        ("mrbc_ir", "", 2, 92.0),
        ("mrbc_ir", "width", 1, 85.0),
        ("mrbc_ir", "step_loss", 1, 88.0),
        ("mrbc_ir", "", 3, 91.0),  # nothing to compare it with
        ("yang_mrbc_ir", "", 1, 70.0),  # another schedule than mrbc's
    ]
    rows = pd.DataFrame(rows, columns=["recipe", "changed", "seed", "accuracy"])
    gain = gain_of_refinement(rows.assign(image_size=32))
    assert gain["changed"].tolist() == ["", "", "width", "step_loss"]
    assert gain["gain"].tolist() == [30.0, 42.0, 15.0, 28.0]
    assert gain["mean"].tolist() == [36.0, 36.0, 15.0, 28.0]
    assert gain["deviation"].tolist()[:2] == pytest.approx([6 * 2**0.5] * 2, abs=1e-3)


@pytest.mark.integration
def test_table_1_has_runs_steps_and_pairs(sample_store, tmp_path, capsys):
    for name in ("convnet", "convnet_ir"):
        recipe = get_recipe(name).override(
            image_size=16, **{"model.width": 4}, epochs=1, batch_size=32
        )
        train(recipe, sample_store, tmp_path / name)
    arguments = ["--data", str(sample_store.path), "--out", str(tmp_path), "--workdir"]
    runs = [str(tmp_path / "convnet"), str(tmp_path / "convnet_ir")]
    assert main(["reproduce", "yang_table1", *arguments, *runs]) == 0
    table = pd.read_csv(tmp_path / "yang_table1_ours.csv")
    assert table["refinement"].tolist() == ["no", "T = 4"]
    assert (table["gmac"] > 0).all() and (table["ms_per_image"] > 0).all()
    assert table["parameters"][1] > table["parameters"][0]
    steps = pd.read_csv(tmp_path / "yang_table1_steps.csv")
    assert steps["step"].tolist() == list(range(1, 9)) and set(steps["run"]) == {"convnet_ir"}
    # The fourth of eight steps is the last of four.
    assert steps["accuracy"][3] == pytest.approx(table["accuracy"][1], abs=1e-3)
    pairs = pd.read_csv(tmp_path / "yang_table1_pairs.csv")
    difference = table["accuracy"][1] - table["accuracy"][0]
    assert pairs["difference"].tolist() == pytest.approx([difference], abs=2e-3)
    assert len(pd.read_csv(tmp_path / "yang_table1_paper.csv")) == 16
    gain = pd.read_csv(tmp_path / "yang_table1_gain.csv")
    assert gain["backbone"].tolist() == ["convnet"]
    assert gain["gain"].tolist() == pytest.approx([difference], abs=2e-3)
    # A bias is reset only where the main output is a dense layer.
    assert main(["reproduce", "melnyk_table2", *arguments, *runs]) == 2
    assert "that end in a dense layer only" in capsys.readouterr().err
    # Figures take one run; it's the two characters that it confuses most, two samples each.
    assert main(["reproduce", "yang_figure1", *arguments, *runs]) == 2
    assert "one run with refinement" in capsys.readouterr().err
    assert main(["reproduce", "yang_figure1", *arguments, runs[1]]) == 0
    read = pd.read_csv(tmp_path / "yang_figure1_read.csv")
    assert len(read) == 4 * 4 and (tmp_path / "yang_figure1.png").exists()
    assert main(["reproduce", "yang_figure5", *arguments, runs[1]]) == 0
    counts = pd.read_csv(tmp_path / "yang_figure5_steps.csv")
    for name in ("corrected", "broken"):
        number = counts[f"{name}_since_first"].iloc[-1]
        path = tmp_path / f"yang_figure5_{name}.csv"
        assert path.exists() == (number > 0)
        if number:
            assert len(pd.read_csv(path)) == min(number, 8) * 4 * 5
            assert "t = 1" in (tmp_path / f"{name}.txt").read_text("utf-8")
    assert len(pd.read_csv(tmp_path / "yang_figure5_paper.csv")) == 15
