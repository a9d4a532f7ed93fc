"""Reading of stroke centre lines."""

import gzip
import json

import numpy as np
import pytest

from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.utils.errors import HccrError

NUMERALS = "零一二三四五六七八九十百千万亿"
COUNTS = [13, 1, 2, 3, 5, 4, 4, 2, 2, 2, 2, 6, 3, 3, 3]


def test_embedded_characters_have_their_strokes():
    strokes = load_strokes()
    assert "".join(strokes) == NUMERALS
    assert [len(lines) for lines in strokes.values()] == COUNTS
    for line in (line for lines in strokes.values() for line in lines):
        assert line.dtype == np.float32 and line.ndim == 2 and line.shape[1] == 2
        assert len(line) >= 3
        assert line[:, 0].min() >= 0 and line[:, 0].max() <= 1024
        assert line[:, 1].min() >= -124 and line[:, 1].max() <= 900
    upper, lower = strokes["二"]  # y points upwards
    assert upper[:, 1].min() > lower[:, 1].max()
    assert np.ptp(upper[:, 0]) < np.ptp(lower[:, 0])


@pytest.mark.parametrize("name", ["own.json", "own.json.gz", "graphics.txt", "graphics.txt.gz"])
def test_own_centre_lines_are_read(tmp_path, name):
    content = {"丁": [[[1, 2], [3, 4.5]], [[5, 6]]], "一": [[[1, 2], [9, 2]]]}
    text = json.dumps(content)
    if "txt" in name:  # Make Me a Hanzi's
        lines = ({"character": c, "strokes": ["M 1 2 Z"], "medians": m} for c, m in content.items())
        text = "\n".join(map(json.dumps, lines))
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    strokes = load_strokes(str(path))
    assert {c: [line.tolist() for line in lines] for c, lines in strokes.items()} == content


STROKES = ["[]", "3", "[[]]", "[[[1, 2, 3]]]", "[[[1, 2], [3]]]", '[[["a", 2]]]', "[[[1, NaN]]]"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", *(f'{{"一": {lines}}}' for lines in STROKES)])
def test_malformed_files_are_named(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf8")
    with pytest.raises(HccrError, match=r"broken\.json.*Expected JSON"):
        load_strokes(path)


def test_damaged_files_are_named(tmp_path):
    whole = gzip.compress(json.dumps({"一": [[[1, 2]] * 500]}).encode())
    for raw in (b"{}", whole[:-9], whole[:12] + b"\xff" * 20):
        path = tmp_path / "broken.json.gz"
        path.write_bytes(raw)
        with pytest.raises(HccrError, match=r"broken\.json\.gz.*Expected JSON"):
            load_strokes(path)
    path = tmp_path / "dictionary.txt"
    path.write_text('{"character": "一"}\n')
    with pytest.raises(HccrError, match="line 1 lacks medians"):
        load_strokes(path)
    with pytest.raises(FileNotFoundError):
        load_strokes(tmp_path / "absent.json")
