"""The weights that come with the package: what they are, and that they read."""

import hashlib
import json

import numpy as np
import photographs as made
import pytest
from PIL import Image

from hccr_tf import Recognizer
from hccr_tf.charset import Charset
from hccr_tf.cli.main import main
from hccr_tf.data.store.prepare import prepare
from hccr_tf.data.store.splits import draw_per_class
from hccr_tf.models.weights import read_checksum
from hccr_tf.pretrained import FOLDER

pytestmark = pytest.mark.integration
NUMERALS = "零一二三四五六七八九十百千万亿"


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer()


def test_size_checksums_and_card_agree():
    assert sum(p.stat().st_size for p in FOLDER.parent.rglob("*") if p.is_file()) < 12e6
    weights = FOLDER / "prediction.safetensors"
    run = json.loads((FOLDER / "run.json").read_text())
    assert run["state"] == "packed" and run["weights_sha256"] == read_checksum(weights)
    card = (FOLDER / "MODEL_CARD.md").read_text("utf-8")
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in card
    for word in ("Arphic", "hccr data strokes", "hccr train recogniser"):
        assert word in card
    assert "store" not in run and "/" not in run.get("init_from", "")


def test_characters_are_gb2312(recognizer):
    assert recognizer.charset.sha256 == Charset.named("gb2312").sha256
    first = Recognizer(level=1)
    assert first.competing.sum() == 3755 and Recognizer(level=2).competing.sum() == 6763
    # A character of level 2 is never the answer at level 1.
    for found in first.predict([made.on_paper(c) for c in NUMERALS], top_k=9999):
        named = [found.character, *(c for c, _ in found.alternatives)]
        assert len(named) == 3755 and set(named) == set(Charset.named("gb2312-1"))
        total = found.probability + sum(p for _, p in found.alternatives)
        assert total == pytest.approx(1, abs=1e-5)


def test_the_packages_own_weights_are_not_written_over(tmp_path, capsys):
    assert main(["calibrate", "recogniser", "--data", str(tmp_path)]) == 2
    assert main(["pack", "recogniser", "--out", str(tmp_path / "copy")]) == 0
    assert (tmp_path / "copy" / "prediction.safetensors").exists()


def test_it_reads_drawn_numerals(recognizer):
    images = [made.on_paper(c, seed=s) for s in range(4) for c in NUMERALS]
    read = [r.character for r in recognizer.predict(images)]
    assert np.mean([a == b for a, b in zip(read, 4 * NUMERALS, strict=True)]) > 0.8


def test_it_reads_photographs(recognizer):
    changes = (
        lambda paper: 255 - paper,
        lambda paper: made.unevenly_lit(made.coloured(paper, (240, 230, 200), (40, 40, 120))),
        made.barred,
        made.gridded,
    )
    plain = [made.on_paper(character, seed=7) for character in NUMERALS]
    images = [changes[i % 4](paper) for i, paper in enumerate(plain)]
    expected, found = (recognizer.predict(some) for some in (plain, images))
    same = [a.character == b.character for a, b in zip(expected, found, strict=True)]
    assert sum(same) >= 13


def test_the_command_needs_no_run(tmp_path, capsys):
    path = tmp_path / "五.png"
    Image.fromarray(made.on_paper("五")).save(path)
    assert main(["predict", str(path), "--level", "1"]) == 0
    assert "五.png  五" in capsys.readouterr().out


@pytest.mark.slow
def test_it_reads_real_handwriting(recognizer, hwdb100, tmp_path):
    source, charset = hwdb100 / "CASIA-HWDB_Test.zip", Charset.named("gb2312")
    store = prepare([source], tmp_path / "store", progress=False, charset=charset)
    indices = store.indices("all")
    indices = indices[draw_per_class(store.labels[indices], 5, 1)]
    read = recognizer.logits(store.images(indices))
    # The store's classes are the recogniser's.
    labels = store.labels[indices]
    assert store.charset.sha256 == recognizer.charset.sha256 and len(labels) == 450
    # Measured: 61 % with all 6,763 competing, 82 % with these 90 characters.
    assert (read.argmax(axis=1) == labels).mean() > 0.55
    classes = np.unique(labels)
    assert (classes[read[:, classes].argmax(axis=1)] == labels).mean() > 0.77
