"""The papers' numbers as the package has them."""

import pandas as pd
import pytest

from hccr_tf.papers.paper_results import PATH, paper_table


def test_cells_are_unique_and_complete():
    cells = pd.read_csv(PATH, dtype=str, keep_default_na=False)
    assert list(cells) == ["paper", "table", "row", "column", "value", "note"]
    assert not cells.duplicated(["paper", "table", "row", "column"]).any()
    assert (cells[["paper", "table", "row", "column", "value"]] != "").all(axis=None)


def test_kriuk_2024():
    one, two = paper_table("kriuk-2024", "table 1"), paper_table("kriuk-2024", "table 2")
    assert one.shape == (9, 2) and two.shape == (10, 3)
    assert one.loc["Our Study"].tolist() == ["2024", "97.79"]
    assert one["accuracy"].astype(float).idxmax() == "Our Study"
    assert two.loc["30"].tolist() == ["91.51", "97.02", "97.72"]
    # Sums over the columns as printed.
    assert one["accuracy"].astype(float).sum() == pytest.approx(869.03)
    sums = two.astype(float).sum()
    assert sums.tolist() == pytest.approx([880.09, 944.73, 948.58])


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


def test_melnyks_table_1():
    table = paper_table("melnyk-2018", "table 1")
    assert table.shape == (21, 4)
    kernels = table["Model A"].str.extract(r"conv. (\d+)")[0].dropna().astype(int)
    assert kernels.tolist() == [64, 64, 96, 64, 96, 128, 96, 128, 256, 192, 256, 448, 256, 448]
    assert table.loc["Conv-Block4, 3", "output shape"] == "6 x 6 x 448"


def test_yangs_figure_5():
    table = paper_table("yang-2017", "figure 5")
    assert table.shape == (15, 4)
    numbers = table.apply(lambda column: column.str[-5:].astype(float))
    # Sums by step as printed; probabilities of five characters are at most 1.
    assert numbers.sum().tolist() == pytest.approx([2.949, 2.951, 2.944, 2.942])
    assert table.loc["式, 1"].tolist()[-1] == "式: 0.408"


def test_an_unknown_table_is_told():
    with pytest.raises(ValueError, match="holds no table 9 of melnyk-2018"):
        paper_table("melnyk-2018", "table 9")


def test_yang_2017():
    table = paper_table("yang-2017", "table I")
    assert table.shape == (16, 4)
    assert table.loc["Our M-RBC + IR"].tolist() == ["97.37", "1.0 + 1.1", "No", "No"]
    assert pd.to_numeric(table["accuracy"]).sum() == pytest.approx(1537.28)
    assert (table["preprocessing"] == "Yes").sum() == 4


def test_chen_2023():
    one, two = paper_table("chen-2023", "table 1"), paper_table("chen-2023", "table 2")
    assert one.shape == (3, 4) and two.shape == (18, 7)
    assert one.loc["small model"].tolist() == ["0.1137", "0.9650", "0.0297", "0.9933"]
    assert one.astype(float).to_numpy().sum() == pytest.approx(6.2889)
    # By the text, the best configuration; its row is table 1's first.
    best = two["validation accuracy"].astype(float).idxmax()
    assert two.loc[best].tolist() == ["4", "1e-4", "40", *one.loc["small model"]]
    # Sums over the columns as printed.
    sums = {
        "GPUs": 45,
        "learning rate": 78e-4,
        "batch size": 420,
        "train loss": 2.7488,
        "train accuracy": 17.1282,
        "validation loss": 19.6352,
        "validation accuracy": 12.7502,
    }
    for column, total in sums.items():
        assert pd.to_numeric(two[column]).sum() == pytest.approx(total), column
    text = paper_table("chen-2023", "section 4.1")["validation accuracy"].tolist()
    assert text == ["93.14", "95.05", "96.67"]
    # Whole numbers of 1,050 images, to the last digit.
    for accuracy in text:
        number = round(float(accuracy) * 10.5)
        assert f"{100 * number / 1050:.2f}" == accuracy
    notes = pd.read_csv(PATH, dtype=str, keep_default_na=False)
    notes = notes[(notes["paper"] == "chen-2023") & notes["note"].str.contains("misprinted")]
    assert list(zip(notes["row"], notes["column"], notes["value"], strict=True)) == [
        ("model1", "validation accuracy", "0.5035"),
        ("model2", "validation loss", "0.9767"),
    ]
