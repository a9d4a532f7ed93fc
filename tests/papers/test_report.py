"""The page of all results, and results found again."""

import base64
import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from hccr_tf.images.contact_sheet import encode_png
from hccr_tf.papers.report import find_results, read_results, write_report


@pytest.fixture
def page(tmp_path):
    """A report of one table with Chinese in it, one image, and a figure that wasn't run."""
    folder = tmp_path / "results" / "yang_table1"
    folder.mkdir(parents=True)
    table = pd.DataFrame(
        {
            "run": ["b", "a", "c"],
            "accuracy": [9.5, 10.25, np.nan],
            "character": ["永 & <b>", "字", "零"],
        }
    )
    table.to_csv(folder / "yang_table1_ours.csv", index=False)
    (folder / "yang_table1.png").write_bytes(encode_png(np.full((40, 60), 128, np.uint8)))
    (folder / "about.json").write_text(
        json.dumps(
            {
                "experiment": "yang_table1",
                "description": "Yang et al. 2017, table I: 永",
                "scale": "smoke",
                "data": "store",
                "data_hash": "ab" * 32,
                "split": "test",
                "tables": ["yang_table1_ours.csv"],
            }
        )
    )
    other = tmp_path / "results" / "kriuk_figure8"
    other.mkdir()
    cells = pd.DataFrame({"cell": ["model1"], "state": ["not run"], "command": ["hccr train x"]})
    cells.to_csv(other / "cells.csv", index=False)
    out = tmp_path / "report.html"
    assert write_report(tmp_path / "results", out) == 2
    return out.read_text("utf-8")


def test_everything_is_in_one_file(page):
    text = page
    assert text.index("Kriuk") < text.index("Yang et al.")
    assert "永" not in re.sub(r"<[^>]*>", "", text)  # drawn, as a machine may lack the font
    assert 'href="#yang_table1-smoke"' in text and "#kriuk_figure8" in text
    assert "&amp; &lt;b&gt;" in text and "not run" in text and 'class="missing"' in text
    assert 'src="data:image/png;base64,' in text and "http" not in text
    # Cells of numbers stand at the right; a cell without a value stays empty.
    assert '<td class="number">10.25</td>' in text and '<td class="number"></td>' in text


def test_characters_are_readable(page):
    images = re.findall(r'<img class="glyph" alt="(.)" src="data:image/png;base64,([^"]+)"', page)
    assert {"永", "字", "零"} == {character for character, _ in images}
    for _, data in images:
        png = np.frombuffer(base64.b64decode(data), np.uint8)
        image = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE)
        # Dark strokes, of a good part of the image's pixels.
        assert 0.05 < (image < 128).mean() < 0.6 and image.shape[0] >= 40


def test_results_are_found_again(page, tmp_path):
    about, tables = read_results("yang_table1", [tmp_path / "nothing", tmp_path / "results"])
    assert about["split"] == "test" and tables["ours"]["run"].tolist() == ["b", "a", "c"]
    smoke = tmp_path / "results" / "smoke"
    smoke.mkdir()
    (tmp_path / "results" / "yang_table1").rename(smoke / "yang_table1")
    assert find_results("yang_table1", [tmp_path / "results"]) == smoke / "yang_table1"
    with pytest.raises(FileNotFoundError, match="no results of chen_transfer .*--workdir RUN"):
        find_results("chen_transfer", [tmp_path])
    with pytest.raises(FileNotFoundError, match="`hccr reproduce kriuk_figure8 --scale smoke`"):
        find_results("kriuk_figure8", [tmp_path])


@pytest.mark.parametrize("name", ["../../secret.csv", "/etc/passwd", "..", "a/b.csv"])
def test_no_file_from_elsewhere_comes_into_the_page(page, tmp_path, name):
    (tmp_path / "secret.csv").write_text("secret,of\nsomebody,else\n")
    file = tmp_path / "results" / "yang_table1" / "about.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tables": [name]}))
    for read in (
        lambda: write_report(tmp_path / "results", tmp_path / "other.html"),
        lambda: read_results("yang_table1", [tmp_path / "results"]),
    ):
        with pytest.raises(
            ValueError, match=r"about\.json: tables\.0 is .*, not the name of a file"
        ):
            read()
    assert not (tmp_path / "other.html").exists()


@pytest.mark.parametrize("content", ["{}", "[]", "3", "[" * 100_000, '{"experiment": 1}', "\xff"])
def test_damaged_results_are_named(page, tmp_path, content):
    file = tmp_path / "results" / "yang_table1" / "about.json"
    file.write_text(content, "latin-1")
    with pytest.raises(ValueError, match=r"about\.json.*hccr reproduce"):
        write_report(tmp_path / "results", tmp_path / "other.html")


def test_it_reads_like_a_papers_results(tmp_path):
    """Tables before figures and open questions; percent with intervals; what was made is folded."""
    ours = pd.DataFrame(
        {
            "run": ["raw", "blurred"],
            "parameters": [1234567, 1234567],
            "val_accuracy": [0.5, 0.25],
            "accuracy": [61.234, 50.0],
            "low": [58.0, 47.0],
            "high": [64.0, 53.0],
            "test_set": 2 * ["store test, 15 classes"],
            "train_command": 2 * ["hccr train x"],
        }
    )
    paper = pd.DataFrame({"model": ["AlexNet", "Our Study"], "accuracy": ["80.1", "97.79"]})
    pairs = {"first": ["raw"], "second": ["blurred"], "difference": [-11.234], "p": [1e-9]}
    for name, title in {
        "kriuk_blur": "left open: blur",
        "kriuk_figure7": "figure 7: fusion",
        "kriuk_figures4to6": "figures 4 to 6: inputs",
        "kriuk_table1": "table 1: accuracy",
        "networks": "any networks",
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        tables = {"ours": ours, "paper": paper, "pairs": pd.DataFrame(pairs)}
        files = [f"{name}_{kind}.csv" for kind in tables]
        for file, table in zip(files, tables.values(), strict=True):
            table.to_csv(folder / file, index=False)
        about = {
            "experiment": name,
            "description": f"Kriuk & Kriuk 2024, {title}.",
            "tables": files,
        }
        (folder / "about.json").write_text(json.dumps(about | {"made": "2026-12-01"}))
        ours.to_csv(folder / "cells.csv", index=False)
    write_report(tmp_path, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    sections = re.findall(r"<h3>(.*?)</h3>", text)
    expected = [
        "Table 1: accuracy",
        "Figures 4 to 6: inputs",
        "Figure 7: fusion",
        "Left open: blur",
    ]
    assert sections[:4] == expected
    assert "61.23 (58.0 – 64.0)" in text and "<th>accuracy, % (95 % interval)</th>" in text
    assert "<th>val accuracy, %</th>" in text and '<td class="number">25.00</td>' in text
    assert "1,234,567" in text
    verdict = "raw reads most here, 61.23 % (58.0 to 64.0) of store test, 15 classes; the paper"
    assert verdict in text and "best is 97.79 %, of its own data; 1 of 1 pairs differ" in text
    first = text.partition("<section")[2].partition("</section>")[0]
    assert "hccr train x" not in first.partition("<details>")[0] and "hccr train x" in first
    assert "made 2026-12-01" in first
