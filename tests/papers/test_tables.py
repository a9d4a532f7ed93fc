"""The papers' numbers as the package has them, and tables of settings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hccr_tf import papers
from hccr_tf.papers.report import pairs_by_setting
from hccr_tf.papers.tables import paper_table


@pytest.mark.parametrize("paper", ["kriuk_2024", "melnyk_2018", "yang_2017", "chen_2023"])
def test_cells_are_unique_and_complete(paper):
    path = Path(papers.__file__).parent / paper / "results.csv"
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(cells) == ["table", "row", "column", "value", "note"]
    assert not cells.duplicated(["table", "row", "column"]).any()
    assert (cells[["table", "row", "column", "value"]] != "").all(axis=None)


# Sums over the columns as printed, of those that are numbers, and one of the rows.
@pytest.mark.parametrize(
    ("paper", "table", "shape", "sums", "row"),
    [
        ("kriuk_2024", "table 1", (9, 2), {"accuracy": 869.03}, "Our Study: 2024 97.79"),
        ("kriuk_2024", "table 2", (10, 3), [880.09, 944.73, 948.58], "30: 91.51 97.02 97.72"),
        ("melnyk_2018", "table 1", (21, 4), {}, None),
        ("melnyk_2018", "table 2", (3, 3), {}, "Model C: 6523819 97.61 0.00045"),
        ("melnyk_2018", "table 3", (20, 5), {"accuracy": 1944.63, "size": 951.1}, None),
        ("yang_2017", "table I", (16, 4), [1537.28], "Our M-RBC + IR: 97.37 1.0 + 1.1 No No"),
        ("yang_2017", "figure 5", (15, 4), {}, None),
        ("chen_2023", "table 1", (3, 4), {}, "small model: 0.1137 0.9650 0.0297 0.9933"),
        (
            *("chen_2023", "table 2", (18, 7)),
            [45, 78e-4, 420, 2.7488, 17.1282, 19.6352, 12.7502],
            None,
        ),
    ],
)
def test_tables_are_whole(paper, table, shape, sums, row):
    printed = paper_table(paper, table)
    assert printed.shape == shape
    for column, total in (
        sums.items() if isinstance(sums, dict) else zip(printed, sums, strict=False)
    ):
        numbers = pd.to_numeric(printed[column], errors="coerce")
        assert numbers.sum() == pytest.approx(total), column
    if row is not None:
        name, values = row.split(": ")
        assert " ".join(printed.loc[name]) == values


def test_melnyk_2018():
    three = paper_table("melnyk_2018", "table 3")
    assert three.loc["Melnyk-Net (Model C)"].tolist()[:4] == ["24.9", "97.61", "no", "yes"]
    assert three.loc["Ensemble DCNN-Similarity ranking", "ensemble"] == "yes (4)"
    assert three.index[0] == "Human Level Performance" and three["size"].iloc[0] == "n/a"
    assert (three["raw data"] == "no").sum() == 3


def test_yang_2017():
    assert (paper_table("yang_2017", "table I")["preprocessing"] == "Yes").sum() == 4
    figure = paper_table("yang_2017", "figure 5")
    numbers = figure.apply(lambda column: column.str[-5:].astype(float))
    # Sums by step as printed; probabilities of five characters are at most 1.
    assert numbers.sum().tolist() == pytest.approx([2.949, 2.951, 2.944, 2.942])
    assert figure.loc["式, 1"].tolist()[-1] == "式: 0.408"


def test_chen_2023():
    one, two = paper_table("chen_2023", "table 1"), paper_table("chen_2023", "table 2")
    assert one.astype(float).to_numpy().sum() == pytest.approx(6.2889)
    # By the text, the best configuration; its row is table 1's first.
    best = two["validation accuracy"].astype(float).idxmax()
    assert two.loc[best].tolist() == ["4", "1e-4", "40", *one.loc["small model"]]
    text = paper_table("chen_2023", "section 4.1")["validation accuracy"].tolist()
    assert text == ["93.14", "95.05", "96.67"]
    # Whole numbers of 1,050 images, to the last digit.
    for accuracy in text:
        assert f"{100 * round(float(accuracy) * 10.5) / 1050:.2f}" == accuracy
    cells = pd.read_csv(Path(papers.__file__).parent / "chen_2023" / "results.csv", dtype=str)
    notes = cells[cells["note"].str.contains("misprinted", na=False)]
    assert notes[["row", "column", "value"]].to_numpy().tolist() == [
        ["model1", "validation accuracy", "0.5035"],
        ["model2", "validation loss", "0.9767"],
    ]


def test_an_unknown_table_is_told():
    with pytest.raises(ValueError, match="melnyk_2018/results.csv holds no table 9"):
        paper_table("melnyk_2018", "table 9")


def test_pairs_are_named_by_their_setting():
    ours = pd.DataFrame({"run": list("abc"), "gamma": [0, 2, 4], "input": [1, 1, 2]})
    pairs = pd.DataFrame({"first": list("aab"), "second": list("bcc"), "p": [0.04, 0.001, 0.03]})
    table = pairs_by_setting({"ours": ours, "pairs": pairs}, "gamma")
    assert table[["gamma", "other gamma"]].to_numpy().tolist() == [[0, 4], [2, 4], [0, 2]]
    # Holm's limits are a third, a half and the whole of 0.05; after one that fails, all do.
    assert table["beyond chance"].tolist() == [True, False, False]
    table = pairs_by_setting({"ours": ours, "pairs": pairs}, "gamma", within="input")
    assert table[["input", "gamma", "other gamma", "p"]].to_numpy().tolist() == [[1, 0, 2, 0.04]]
    assert np.array_equal(table["beyond chance"], [True])
    assert pairs_by_setting({"ours": ours}, "gamma").empty
