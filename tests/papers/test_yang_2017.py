"""`hccr reproduce` for Yang et al. 2017, on runs of the sample."""

import pandas as pd
import pytest

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


@pytest.mark.slow
@pytest.mark.integration
def test_tables_and_figures_of_runs(make_tables, convnet_runs, tmp_path):
    runs = convnet_runs
    assert set(make_tables("yang_table1", runs[:1])) == {"ours", "paper", "runs"}
    tables = make_tables("yang_table1", runs)
    table, steps = tables["ours"], tables["steps"]
    assert table["refinement"].tolist() == ["no", "T = 4"]
    assert (table["gmac"] > 0).all() and (table["ms_per_image"] > 0).all()
    assert table["parameters"][1] > table["parameters"][0]
    assert steps["step"].tolist() == list(range(1, 9)) and set(steps["run"]) == {"convnet_ir"}
    # The fourth of eight steps is the last of four.
    assert steps["accuracy"][3] == pytest.approx(table["accuracy"][1], abs=1e-3)
    difference = table["accuracy"][1] - table["accuracy"][0]
    assert tables["pairs"]["difference"].tolist() == pytest.approx([difference], abs=2e-3)
    assert tables["gain"]["backbone"].tolist() == ["convnet"] and len(tables["paper"]) == 16
    assert tables["gain"]["gain"].tolist() == pytest.approx([difference], abs=2e-3)
    with pytest.raises(ValueError, match="that end in a dense layer only"):
        make_tables("melnyk_table2", runs)
    # Figures take one run; it's the two characters that it confuses most, two samples each.
    with pytest.raises(ValueError, match="one run with refinement"):
        make_tables("yang_figure1", runs)
    assert len(make_tables("yang_figure1", runs[1:])["read"]) == 4 * 4
    assert (tmp_path / "yang_figure1.png").exists()
    tables = make_tables("yang_figure5", runs[1:])
    for name in ("corrected", "broken"):
        number = tables["steps"][f"{name}_since_first"].iloc[-1]
        assert (name in tables) == (number > 0)
        if number:
            assert len(tables[name]) == min(number, 8) * 4 * 5
            assert "t = 1" in (tmp_path / f"{name}.txt").read_text("utf-8")
    assert len(tables["paper"]) == 15
