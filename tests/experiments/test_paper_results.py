"""The papers' numbers as the package has them."""

import pandas as pd
import pytest

from hccr_tf.experiments.paper_results import PATH, paper_table


def test_cells_are_unique_and_complete():
    cells = pd.read_csv(PATH, dtype=str, keep_default_na=False)
    assert list(cells) == ["paper", "table", "row", "column", "value", "note"]
    assert not cells.duplicated(["paper", "table", "row", "column"]).any()
    assert (cells[["paper", "table", "row", "column", "value"]] != "").all(axis=None)


def test_melnyk_2018():
    two, three = paper_table("melnyk-2018", "table 2"), paper_table("melnyk-2018", "table 3")
    assert two.shape == (3, 3) and three.shape == (20, 5)
    assert two.loc["Model C"].tolist() == ["6523819", "97.61", "0.00045"]
    assert three.loc["Melnyk-Net (Model C)"].tolist()[:4] == ["24.9", "97.61", "no", "yes"]
    assert three.loc["Ensemble DCNN-Similarity ranking", "ensemble"] == "yes (4)"
    assert three.index[0] == "Human Level Performance" and three["size"].iloc[0] == "n/a"
    # Sums over the columns as printed.
    assert pd.to_numeric(three["accuracy"]).sum() == pytest.approx(1944.63)
    assert pd.to_numeric(three["size"], errors="coerce").sum() == pytest.approx(951.1)
    assert (three["raw data"] == "no").sum() == 3


def test_an_unknown_table_is_told():
    with pytest.raises(ValueError, match="holds no table 9 of melnyk-2018"):
        paper_table("melnyk-2018", "table 9")


def test_yang_2017():
    table = paper_table("yang-2017", "table I")
    assert table.shape == (16, 4)
    assert table.loc["Our M-RBC + IR"].tolist() == ["97.37", "1.0 + 1.1", "No", "No"]
    assert pd.to_numeric(table["accuracy"]).sum() == pytest.approx(1537.28)
    assert (table["preprocessing"] == "Yes").sum() == 4
