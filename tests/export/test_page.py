"""A page in one file: what is in it, what is refused. e2e/test_page_reading.py reads with it."""

import base64
import gzip
import json
import re

import pytest

from hccr_tf.cli.main import main
from hccr_tf.export import page
from hccr_tf.inference.onnx_predictor import OnnxPredictor
from hccr_tf.pretrained import EXPORTED, FOLDER
from hccr_tf.utils.errors import HccrError


def test_the_command_writes_all_that_reading_takes_into_one_file(tmp_path, capsys):
    out = tmp_path / "new" / "page.html"
    assert main(["export", "recogniser", "--out", str(out)]) == 0
    assert re.search(r"page\.html: \d+\.\d MB", capsys.readouterr().out)
    assert out.stat().st_size < 16e6
    text = out.read_text("utf-8")
    assets = dict(re.findall(r'<script type="text/plain" id="(\w+)">([^<]+)</script>', text))
    assert gzip.decompress(base64.b64decode(assets["wasm"])).startswith(b"\0asm")
    model = gzip.decompress(base64.b64decode(assets["model"]))
    assert model == (FOLDER / EXPORTED).read_bytes()
    facts, predictor = json.loads(assets["facts"]), OnnxPredictor(FOLDER / EXPORTED)
    assert facts["characters"] == predictor.charset.text
    assert facts["preprocessing"] == predictor.preprocessing.to_dict()
    assert facts["temperature"] == predictor.temperature
    # Nothing is left that a browser would have to fetch.
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href|from|import|Worker\()\s*[=(]?\s*"(?!data:)', text)


def test_a_page_that_is_too_large_is_refused_and_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MAX_BYTES", 1_000_000)
    with pytest.raises(HccrError, match=r"The page of recogniser would have 1\d\.\d MB"):
        page.export_page("recogniser", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_what_is_no_exported_file_is_refused(tmp_path):
    with pytest.raises(HccrError, match=r"no file .*absent\.onnx"):
        page.export_page(tmp_path / "absent.onnx", tmp_path / "page.html")


@pytest.mark.integration
def test_a_run_becomes_a_page(compact_run, tmp_path):
    out = page.export_page(compact_run, tmp_path / "page.html", quantize="float16")
    assert "零一二三" in out.read_text("utf-8")
