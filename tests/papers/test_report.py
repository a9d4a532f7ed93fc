"""The report as a browser shows it; skipped where there's no Chromium."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from hccr_tf.images.contact_sheet import encode_png
from hccr_tf.papers.report import write_report


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
                "description": "Yang: 永",
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
    return out


def test_everything_is_in_one_file(page):
    text = page.read_text("utf-8")
    assert text.index("Kriuk") < text.index("Yang et al.")
    assert "永" not in re.sub(r"<[^>]*>", "", text)  # drawn, as a machine may lack the font
    assert 'href="#yang_table1-smoke"' in text and "#kriuk_figure8" in text
    assert "&amp; &lt;b&gt;" in text and "not run" in text and 'class="missing"' in text
    assert 'src="data:image/png;base64,' in text and "http" not in text


@pytest.fixture
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("the report is looked at in Chromium; install chromium and chromium-driver")
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    service = selenium.ChromeService(shutil.which("chromedriver"))
    driver = selenium.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def test_images_are_there_and_tables_sort(page, browser):
    browser.get(page.as_uri())
    images = browser.execute_script(
        "return [...document.images].map(i => [i.alt, i.complete, i.naturalWidth])"
    )
    assert len(images) >= 5 and all(done and width > 10 for _, done, width in images)
    assert {"yang_table1", "永", "字", "零"} <= {alt for alt, _, _ in images}
    # Characters are readable: dark strokes, of a good part of the image's pixels.
    shares = browser.execute_script("""
      return [...document.querySelectorAll("img.glyph")].map(image => {
        const canvas = document.createElement("canvas");
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
        let dark = 0;
        for (let i = 0; i < data.length; i += 4) dark += data[i] < 128;
        return [dark / (data.length / 4), image.getBoundingClientRect().height];
      })""")
    assert shares and all(0.05 < dark < 0.6 and height >= 14 for dark, height in shares)

    def column(place):
        return browser.execute_script(
            "return [...document.querySelector('#yang_table1-smoke tbody').rows]"
            f".map(r => r.cells[{place}].dataset.value)"
        )

    heads = browser.find_elements("css selector", "#yang_table1-smoke th")
    assert column(0) == ["b", "a", "c"]
    heads[0].click()
    assert column(0) == ["a", "b", "c"]
    heads[1].click()
    assert column(1) == ["9.5", "10.25", ""]  # as numbers, empty ones last
    heads[1].click()
    assert column(1) == ["10.25", "9.5", ""]
    assert heads[1].get_attribute("aria-sort") == "descending"
