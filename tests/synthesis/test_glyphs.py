"""Strokes traced from fonts, several sources of one character, and clutter."""

import json

import numpy as np
import pytest

from hccr_tf.cli.main import main
from hccr_tf.data.opening import open_dataset
from hccr_tf.synthesis.clutter import KINDS, clutter
from hccr_tf.synthesis.dataset import make_stroke_store
from hccr_tf.synthesis.geometry import from_grid
from hccr_tf.synthesis.glyphs import font_facts, trace, trace_font
from hccr_tf.synthesis.sources import read_font
from hccr_tf.synthesis.style import HandwritingStyle

pytest.importorskip("skimage")
font_builder = pytest.importorskip("fontTools.fontBuilder")

# A cross; a box, whose second stroke has a corner; two upright strokes side by side.
STROKES = {
    "十": [[[100, 400], [900, 400]], [[500, 850], [500, -50]]],
    "口": [
        [[200, 700], [200, 100]],
        [[200, 700], [800, 700], [800, 100]],
        [[200, 100], [800, 100]],
    ],
    "八": [[[200, 800], [200, 0]], [[800, 800], [800, 0]]],
}
LINES = {c: [np.array(s, np.float32) for s in strokes] for c, strokes in STROKES.items()}


def _font(path, licence="Free to use", only="十口八", shift=0):
    """A font whose strokes are bars 80 units wide; 一 is blank."""
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    bars = {
        "十": [(100, 360, 900, 440), (460 + shift, -50, 540 + shift, 850)],
        "口": [(160, 60, 240, 740), (160, 660, 840, 740), (760, 60, 840, 740), (160, 60, 840, 140)],
        "八": [(160 + shift // 2, 0, 240 + shift // 2, 800), (760, 0, 840, 800)],
        "一": [],
    }
    glyphs = {".notdef": TTGlyphPen(None).glyph()}
    for c in [*only, "一"]:
        pen = TTGlyphPen(None)
        for x0, y0, x1, y1 in bars[c]:
            pen.moveTo((x0, y0))
            for point in ((x0, y1), (x1, y1), (x1, y0)):
                pen.lineTo(point)
            pen.closePath()
        glyphs[f"u{ord(c):04X}"] = pen.glyph()
    builder = font_builder.FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord(c): f"u{ord(c):04X}" for c in [*only, "一"]})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (1000, 0) for name in glyphs})
    builder.setupHorizontalHeader(ascent=880, descent=-120)
    names = {"familyName": "Bars", "styleName": "Regular", "version": "Version 1"}
    builder.setupNameTable(names | {"licenseDescription": licence})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_glyphs_become_the_strokes_they_were_drawn_of(tmp_path):
    found = dict(trace_font(_font(tmp_path / "bars.ttf"), LINES, LINES))
    assert set(found) == {"十", "口", "八"}
    for character, traced in found.items():
        assert len(traced.strokes) == len(LINES[character])
        assert traced.reference.tolist() == [[i, i] for i in range(len(traced.strokes))]
        assert traced.distance < 0.03
        # In order and direction too: each begins and ends about where the file's stroke does.
        for ours, theirs in zip(traced.strokes, LINES[character], strict=True):
            ours, theirs = from_grid(ours), from_grid(theirs)
            assert abs(ours[0] - theirs[0]) < 0.12 and abs(ours[-1] - theirs[-1]) < 0.12


def test_strokes_go_straight_on_where_they_cross_and_spurs_are_cut():
    ink = np.zeros((100, 100), bool)
    ink[44:56, 5:95] = True
    ink[5:95, 44:56] = True
    ink[40:44, 20:23] = True  # a bump on the outline, whose skeleton has a spur
    lines = sorted(trace(ink), key=lambda line: np.ptp(line.real))
    assert len(lines) == 2
    upright, level = lines
    assert np.ptp(upright.imag) > 70 and np.ptp(upright.real) < 5
    assert np.ptp(level.real) > 70 and np.ptp(level.imag) < 5


def test_a_ring_is_one_line():
    y, x = np.mgrid[:80, :80]
    distance = np.hypot(y - 40, x - 40)
    (line,) = trace((distance > 25) & (distance < 33))
    assert abs(line[0] - line[-1]) < 3 and abs(np.diff(line)).sum() > 160


def test_fonts_that_are_not_free_are_refused(tmp_path):
    facts = font_facts(_font(tmp_path / "a.ttf"))
    assert facts["licence"] == "Free to use" and facts["name"] == "Bars"
    for text in ("", "All rights reserved."):
        path = _font(tmp_path / "b.ttf", text)
        with pytest.raises(ValueError, match="b.ttf doesn't say that it's free.*--licence"):
            font_facts(path)
        assert font_facts(path, "public domain")["licence"] == "public domain"
    (tmp_path / "c.ttf").write_bytes(b"no font")
    with pytest.raises(ValueError, match="c.ttf can't be read as a font"):
        font_facts(tmp_path / "c.ttf")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty is no font and no folder"):
        font_facts(tmp_path / "empty")


def test_subsets_in_a_folder_are_one_font(tmp_path):
    folder = tmp_path / "bars"
    folder.mkdir()
    _font(folder / "bars-1.ttf", only="十")
    _font(folder / "bars-2.ttf", only="口八")
    assert set(dict(trace_font(folder, LINES, LINES))) == {"十", "口", "八"}
    assert set(dict(trace_font(folder, LINES, "十"))) == {"十"}


def _store(tmp_path, name="store", **variation):
    font = read_font(_font(tmp_path / "bars.ttf", shift=150), LINES, "十八", weight=3.0)
    return make_stroke_store(
        LINES,
        tmp_path / name,
        source={"name": "lines", "sha256": "0" * 64},
        fonts=[font],
        variation=HandwritingStyle(**{"exchange": 0.0, "between": 0.0, **variation}),
        per_class=400,
    )


def test_sources_are_drawn_by_weights_exchange_parts_and_have_forms_between(tmp_path):
    store = _store(tmp_path)
    numbers = [(1, i) for i in range(400)]

    def drawn(c, exchange=0.0, between=0.0):
        classes = np.full(400, store.charset.text.index(c))
        style = HandwritingStyle(exchange=exchange, between=between)
        lines, counts, haste = store._sources.choose(classes, numbers, style)
        assert (haste == 1).all()
        return lines.reshape(400, counts[0], -1)

    # The font's upright stroke stands to the right, its weight is 3 of 4, and it has no 口.
    right = {c: (drawn(c)[:, 1].real.mean(1) > 0.1).mean() for c in "十口"}
    assert 0.68 < right["十"] < 0.82 and right["口"] in (0, 1)
    assert [source["num_characters"] for source in store.manifest["sources"]] == [3, 2]

    between = drawn("八", between=1.0)[:, 0].real.mean(1)
    assert len(set(between.tolist())) > 50  # of each image's own share
    own = {row.tobytes() for row in drawn("八")}
    mixed = {row.tobytes() for row in drawn("八", exchange=1.0)}
    assert len(own) == 2 and own < mixed and len(mixed) == 4


def test_images_are_those_of_their_numbers(tmp_path):
    store = _store(tmp_path, exchange=0.4, between=0.4, clutter=1.0)
    numbers = np.arange(30)
    again = open_dataset(store.path)
    images = store.images(numbers)
    assert all(map(np.array_equal, images, again.images(numbers[::-1])[::-1]))
    assert all(map(np.array_equal, images, map(again.image, numbers)))
    assert _store(tmp_path, "other", clutter=0.5).data_hash != store.data_hash


def test_every_kind_of_clutter_leaves_the_ink():
    image = np.full((60, 50), 255, np.uint8)
    image[5:55, 20:28] = 20
    image[25:33, 5:45] = 20
    for kind in KINDS:
        for seed in range(20):
            before = image.copy()
            found = kind(image, np.random.default_rng(seed))
            assert np.array_equal(image, before) and found.dtype == np.uint8
            assert max(found.shape) >= 16 and (found < 128).sum() > 20
    for seed in range(20):
        changed, again = (clutter(image, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(changed, again)


def test_command(tmp_path, capsys):
    file = tmp_path / "medians.json"
    file.write_text(json.dumps(STROKES))
    font = _font(tmp_path / "bars.ttf", licence="")
    out = ["--out", str(tmp_path / "store")]
    command = ["data", "strokes", str(file), str(font), "--charset", "all", *out]
    assert main(command) == 2
    assert "--licence bars.ttf=" in capsys.readouterr().err
    command += ["--licence", "bars.ttf=public domain", "--weight", "bars.ttf=2"]
    assert main([*command, "--haste", "other.ttf=0.5"]) == 2
    assert "--haste other.ttf=0.5: there is no file of that name" in capsys.readouterr().err
    assert main([*command, "--haste", "bars.ttf=0.5"]) == 0
    assert "Bars, weight 2: 3 characters" in capsys.readouterr().out
    source = open_dataset(tmp_path / "store").manifest["sources"][1]
    assert source["licence"] == "public domain" and source["haste"] == 0.5
    assert len(source["sha256"]) == 64 and source["version"] == "Version 1"
