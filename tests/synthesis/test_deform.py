"""Drawing of handwriting: seeds, shapes, and what varies."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from hccr_tf.synthesis.deform import centre_lines, draw, flowing, parting
from hccr_tf.synthesis.geometry import POINTS
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.synthesis.style import HandwritingStyle
from hccr_tf.utils.settings import from_plain

# Every amount 0: the centre lines as they are.
STILL = HandwritingStyle(
    **dict.fromkeys(asdict(HandwritingStyle()), 0.0)
    | dict.fromkeys(["fade", "ink"], 1.0)
    | dict.fromkeys(["pen_low", "pen_high"], 0.05)
    | dict.fromkeys(["side_low", "side_high"], 100.0)
)
_DEFAULT = HandwritingStyle()


def _lines(character):
    return centre_lines(load_strokes()[character])


def _draw(characters, seeds, variation=_DEFAULT):
    lines = [_lines(c) for c in characters]
    return draw(np.concatenate(lines), np.array([len(x) for x in lines]), seeds, variation)


def test_centre_lines_are_equally_spaced_and_centred():
    line = centre_lines([np.array([[0, 388], [1024, 388]])])[0]
    assert line.shape == (POINTS,)
    np.testing.assert_allclose(line.real, np.linspace(-0.5, 0.5, POINTS), atol=1e-6)
    np.testing.assert_allclose(line.imag, 0, atol=1e-6)
    # y grows upwards in the file and downwards in the image
    assert centre_lines([np.array([[0, 388], [0, 900]])])[0].imag[-1] == pytest.approx(-0.5)
    assert not np.ptp(centre_lines([np.array([[300, 300]])]))  # a dot


def test_other_seeds_draw_otherwise():
    images = _draw("九" * 30, [(1, i) for i in range(30)])
    assert len({p.tobytes() for p in images}) == 30
    heights, widths = zip(*(p.shape for p in images), strict=True)
    assert min(heights + widths) > 8 and max(heights + widths) < 160
    for image in images:
        assert image.dtype == np.uint8
        assert image.min() < 170 and np.median(image) > 250
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert border.min() > 200  # the pen isn't cut off


@pytest.mark.parametrize(
    "strokes",
    [
        [[[512, 400]]],
        [[[512, 400], [512, 400], [512, 400]]],
        [[[100, 500], [900, 500]], [[512, 400]], [[512, 400], [512, 400]]],
        [[[-900, 500], [2500, 700]]],
        [[[500, 500], [501, 500]]] * 60,
    ],
    ids=["dot", "repeated", "mixed", "outside", "many"],
)
def test_any_centre_lines_are_drawn(strokes):
    lines = centre_lines([np.array(stroke, np.float32) for stroke in strokes])
    counts, seeds = np.full(8, len(lines)), [(i,) for i in range(8)]
    images = draw(np.tile(lines, (8, 1)), counts, seeds, _DEFAULT)
    assert all(image.min() < 200 and max(image.shape) < 160 for image in images)


def test_without_variation_a_line_is_where_it_should_be():
    # A cross of 100 pixels with a pen of 5: (100 / 1.05) a side of the character.
    lines = centre_lines(np.array([[[0, 388], [1024, 388]], [[512, -124], [512, 900]]]))
    image, other = (draw(lines, np.array([2]), [(seed,)], STILL)[0] for seed in (0, 99))
    ink = image < 128
    rows, columns = ink.sum(axis=1), ink.sum(axis=0)
    scale = 100 / 1.05
    # The horizontal line: as wide as the character and as thick as the pen.
    assert rows.max() == pytest.approx(scale + 0.05 * scale, abs=2)
    assert (columns > 50).sum() == pytest.approx(0.05 * scale, abs=1.5)
    assert ink[:, len(columns) // 4].sum() == pytest.approx(0.05 * scale, abs=1.5)
    left, right = (np.flatnonzero(ink[:, i]).mean() for i in (10, len(columns) - 10))
    assert left == pytest.approx(right, abs=0.6)
    assert abs(np.flatnonzero(rows > 50).mean() - len(rows) / 2) < 2
    assert image.min() == 0 and np.array_equal(image, other)


# Hasty enough for what only hasty hands do, with parts, joined strokes and ink that thins.
LIVELY = replace(
    STILL,
    cursive=1.0,
    group_split=0.9,
    join=1.0,
    join_reach=0.3,
    pressure=0.3,
    shift=0.02,
    blur=0.1,
)
AMOUNTS = {
    "cursive": 0.5,
    "smooth_cursive": 4.0,
    "flow": 4.0,
    "pen_low": 0.03,
    "pen_high": 0.07,
    "side_low": 60.0,
    "side_high": 120.0,
    "join_reach": 2.0,
}
SEEDS = [(3, i) for i in range(6)]


# Parts, forms between two sources and clutter are the dataset's: test_glyphs.py.
@pytest.mark.parametrize(
    "setting", sorted(set(asdict(LIVELY)) - {"exchange", "between", "clutter", "simple"})
)
def test_every_amount_changes_images(setting):
    others = {"cursive": {"turn_cursive": 0.2}, "group_split": {"group_shift": 0.1}}
    style = replace(LIVELY, **others.get(setting, {}))
    before = _draw("零" * 6, SEEDS, style)
    after = _draw("零" * 6, SEEDS, replace(style, **{setting: AMOUNTS.get(setting, 0.4)}))
    assert not all(map(np.array_equal, after, before))


def test_simple_characters_vary_less():
    def spread(character, simple):
        style = replace(STILL, turn=0.2, side_low=40.0, side_high=40.0, simple=simple)
        images = _draw(character * 20, [(5, i) for i in range(20)], style)
        return np.std([image.shape[0] / image.shape[1] for image in images])

    assert spread("一", 0.2) < 0.5 * spread("一", 1.0)
    assert spread("百", 0.2) < 0.95 * spread("百", 1.0)  # six strokes
    assert spread("零", 0.2) == spread("零", 1.0)  # thirteen


def test_parts_of_a_character_lie_apart():
    def line(x0, y0, x1, y1):
        return np.linspace(complex(x0, y0), complex(x1, y1), POINTS).astype(np.complex64)

    bars = [line(-0.4, y, 0.4, y) for y in (-0.3, -0.1, 0.3)]
    # A cross left of another with two bars, then a stroke under both, which spans them.
    crosses = [
        line(-0.4, 0, -0.1, 0),
        line(-0.3, -0.2, -0.3, 0.2),
        line(0.1, 0, 0.4, 0),
        line(0.2, -0.2, 0.2, 0.2),
        line(0.1, 0.1, 0.4, 0.1),
        line(-0.4, 0.25, 0.4, 0.25),
    ]
    found = parting(np.array(bars + crosses), np.repeat([0, 1], [3, 6]))
    # Before the second cross, three strokes on either side: 0.2, less 0.04.
    expected = [np.inf, 0.2, 0.4, np.inf, -0.2, 0.16, -0.4, -0.1, 0.05]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_hasty_path_flows_from_stroke_to_stroke():
    along = np.linspace(-0.5, 0.5, POINTS)
    # 二, then a dot of another character: the pen goes right, back through the air, and right.
    lines = np.stack([along - 0.2j, along + 0.2j, 0 * along + 0.4]).astype(np.complex64)
    owner = np.array([0, 0, 1])

    strokes, ways = flowing(lines, owner, np.zeros(3))
    np.testing.assert_allclose(strokes, lines, atol=1e-6)
    np.testing.assert_allclose(ways[0], np.linspace(0.5 - 0.2j, -0.5 + 0.2j, POINTS), atol=1e-6)

    strokes, ways = flowing(lines, owner, np.full(3, 4.0))
    assert strokes[0, 0] == pytest.approx(-0.5 - 0.2j, abs=1e-6)
    assert strokes[1, -1] == pytest.approx(0.5 + 0.2j, abs=1e-6)
    np.testing.assert_allclose(strokes[2], lines[2], atol=1e-6)  # another character's
    # The upper one's end turns round and down, the lower begins later and from above.
    assert strokes[0, -1].real < 0.45 and strokes[0, -1].imag > -0.19
    assert strokes[1, 0].real > -0.45 and strokes[1, 0].imag < 0.19
    np.testing.assert_allclose(strokes[0, 5:15], lines[0, 5:15], atol=0.01)
    # Nothing jumps: the way begins and ends where the strokes do, in their direction.
    for sigma, gap in ((4.0, 1e-4), (7.0, 5e-3)):
        strokes, ways = flowing(lines, owner, np.full(3, sigma))
        np.testing.assert_allclose(ways[0, [0, -1]], [strokes[0, -1], strokes[1, 0]], atol=gap)


def test_hasty_hands_join_strokes():
    apart = replace(STILL, cursive=1.0)
    joined = replace(apart, join=5.0, join_reach=10.0)
    seeds = [(1, i) for i in range(40)]
    less, more = (
        np.mean([(p < 128).mean() for p in _draw("三" * 40, seeds, v)]) for v in (apart, joined)
    )
    assert more > 1.1 * less


def test_settings_are_checked_and_round_trip():
    style = HandwritingStyle(bend=0.1)
    assert from_plain(HandwritingStyle, asdict(style)) == style
    with pytest.raises(ValueError, match=r"unknown here: \['bendd'\]"):
        from_plain(HandwritingStyle, {"bendd": 1})
    for wrong in (
        {"bend": -1},
        {"bend": "much"},
        {"pen_low": 0.2, "pen_high": 0.1},
        {"side_low": 4},
        {"flow": 8.0},
        {"smooth_cursive": 7.0},
    ):
        with pytest.raises(ValueError, match="bend|[Pp]ens|[Ss]ides|at most 8"):
            HandwritingStyle(**wrong)
