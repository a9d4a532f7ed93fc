"""Handwriting drawn from stroke centre lines, a batch of characters at a time.

Every image has a writer and a moment of its own, drawn from its seed alone, so that it's the
same in any batch, process or order. The work on strokes is done for all characters of a batch at
once, and they are drawn on one canvas: hundreds of characters cost what one would in calls.

What varies, and by how much, is a `HandwritingStyle`. Its defaults were chosen by what a network
that had learnt from such images misread among real ones; `docs/recogniser.md` has the log.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from hccr_tf.synthesis.geometry import ALONG, POINTS, from_grid, gaussian, smoothing
from hccr_tf.synthesis.rasterize import ink_lines
from hccr_tf.synthesis.style import MOST_SMOOTH, HandwritingStyle

_ALONG = ALONG.astype(np.float32)
_WAVES = 4
_NEAR = 0.04  # sides of a character by which its parts overlap or lie apart
_SMOOTHINGS = np.arange(0, 2 * MOST_SMOOTH + 1) / 2  # sigmas, in points
_AIR = np.arange(1, 9, dtype=np.float32) / 9  # points of the pen's way to the next stroke
_REACH = 24  # points of its path before and after a stroke that its smoothing sees

# Draws from a normal and a uniform distribution, for an image and for each of its strokes. Of the
# columns are taken by:
#   image, normal   0 turn_all, 1 slant, 2 rise, 3 aspect, 4 5 stretch, 6 tone, 12… bend
#   image, uniform  0 hand, 1–4 stretch, 5 side, 6 pen, 7 blur, 8 lightness, 9 10 grain, 11 ink,
#                     12 soften, 13–15 noise, 17 haste, 20… bend
#   stroke, normal    0–3 12 group, 4 turn, 5 scale, 6 7 shift, 8 9 pressure, 10 bow, 11 drop
#   stroke, uniform   0 1 trim, 2 group, 3 join, 4 pull, 5 smooth, 6 pressure, 7 light
_CALMED = [0, 4, 5, *range(12, 12 + 4 * _WAVES)]
_CALMED_STROKES = [*range(8), 12]
_NORMALS, _UNIFORMS, _STROKE_NORMALS, _STROKE_UNIFORMS = 12 + 4 * _WAVES, 20 + 4 * _WAVES, 14, 8


def centre_lines(strokes: Sequence[np.ndarray]) -> np.ndarray:
    """Makes one character's strokes lines of equally spaced points.

    Strokes are (points, 2), x and y in the grid of 1024, y upwards; lines are complex64
    (strokes, POINTS), columns + 1j * rows in sides of the character, about its centre.
    """
    lines = np.empty((len(strokes), POINTS), np.complex64)
    for line, stroke in zip(lines, strokes, strict=True):
        points = from_grid(np.asarray(stroke, np.float64))
        at = np.concatenate([[0.0], np.cumsum(abs(np.diff(points)))])
        line[:] = np.interp(_ALONG * at[-1], at, points)
    return lines


def draw(
    lines: np.ndarray,
    counts: np.ndarray,
    seeds: Sequence[tuple[int, ...]],
    variation: HandwritingStyle,
    haste: np.ndarray | float = 1.0,
) -> list[np.ndarray]:
    """Draws B characters, each by its own seed: uint8 (height, width), cropped to about the ink.

    Args:
        lines: complex64 (strokes of all characters, POINTS) as `centre_lines` makes them, one
            character after another.
        counts: int (B,), how many strokes each character has, at least 1.
        seeds: B keys of NumPy's generator.
        variation: how far they may stray.
        haste: (B,), how much of it hands have: strokes of a running hand are hasty already.
    """
    draws = _Draws(counts, seeds)
    owner = np.repeat(np.arange(len(counts)), counts)
    hand = variation.cursive * draws.uniform[:, 0] ** variation.careful
    calm = np.minimum(1, variation.simple + (1 - variation.simple) * (counts - 1) / 7)
    hand = (hand * np.asarray(haste, np.float32) * calm).astype(np.float32)
    draws.normal[:, _CALMED] *= calm[:, None]
    draws.stroke_normal[:, _CALMED_STROKES] *= calm[owner, None]
    lines, pressure, owner = _written(lines, owner, hand, draws, variation)
    return ink_lines(lines, pressure, owner, draws.normal, draws.uniform, variation)


class _Draws:
    """All random numbers of a batch, an image's by its own seed."""

    def __init__(self, counts: np.ndarray, seeds: Sequence[tuple[int, ...]]):
        normals, uniforms = [], []
        for seed, count in zip(seeds, counts.tolist(), strict=True):
            rng = np.random.default_rng(seed)
            drawn = rng.standard_normal(_NORMALS + count * _STROKE_NORMALS, np.float32)
            # Nobody writes five standard deviations off.
            normals.append(np.clip(drawn, -2.5, 2.5))
            uniforms.append(rng.random(_UNIFORMS + count * _STROKE_UNIFORMS, np.float32))
        self.normal = np.stack([drawn[:_NORMALS] for drawn in normals])
        self.uniform = np.stack([drawn[:_UNIFORMS] for drawn in uniforms])
        of_strokes = np.concatenate([drawn[_NORMALS:] for drawn in normals])
        self.stroke_normal = of_strokes.reshape(-1, _STROKE_NORMALS)
        of_strokes = np.concatenate([drawn[_UNIFORMS:] for drawn in uniforms])
        self.stroke_uniform = of_strokes.reshape(-1, _STROKE_UNIFORMS)


def _written(lines, owner, hand, draws: _Draws, v: HandwritingStyle):
    """The pen's path, pressure and image, of every stroke and of what joins strokes."""
    normal, uniform = draws.stroke_normal.T, draws.stroke_uniform.T
    cursive = hand[owner]
    apart = parting(lines, owner)
    lines = _trimmed(lines, uniform[0], uniform[1], v)
    lines = _in_groups(lines, apart, normal[[0, 1, 2, 3, 12]], uniform[2], v)
    lines = _stretched(lines, owner, draws, v)

    centre = lines.mean(1, keepdims=True)
    turn = (v.turn + v.turn_cursive * cursive) * normal[4]
    short = v.scale_short / (1 + (6 * abs(np.diff(lines, axis=1)).sum(1)) ** 2)
    scale = 1 + (v.scale + v.scale_cursive * cursive + short) * normal[5]
    shift = (v.shift + v.shift_cursive * cursive) * (normal[6] + 1j * normal[7])
    map_ = (np.exp(1j * turn) * scale).astype(np.complex64)[:, None]
    lines = centre + shift.astype(np.complex64)[:, None] + (lines - centre) * map_
    lines = _bent(lines, owner, hand, draws, v)

    # A hasty pen isn't lifted between strokes of one character, and ends reach for one another.
    gap = abs(lines[1:, 0] - lines[:-1, -1])
    within = owner[1:] == owner[:-1]
    chance = v.join * cursive[1:] / (1 + (gap / v.join_reach) ** 2 if v.join_reach else 1)
    joined = within & (uniform[3, 1:] < chance)
    reach = (v.pull * uniform[4, 1:] * joined).astype(np.float32)
    way = (lines[1:, 0] - lines[:-1, -1]) * reach / 2
    lines[:-1] += way[:, None] * _ALONG**3
    lines[1:] -= way[:, None] * (1 - _ALONG) ** 3

    smooth = (0.2 + 0.8 * uniform[5]) * (v.smooth + v.smooth_cursive * cursive)
    lines = _smoothed(lines, smooth, _along)
    haste = hand * (0.25 + 0.75 * draws.uniform[:, 17])
    lines, ways = flowing(lines, owner, v.flow * haste[owner])

    first, second, lift = normal[8, :, None], normal[9, :, None], 1.2 * uniform[6, :, None]
    # More at the end than at the beginning, more at both than in the middle, less where it leaves.
    swell = first * (_ALONG - 0.5) + 0.5 * second * np.cos(2 * np.pi * _ALONG) - lift * _ALONG**4
    pressure = 1 + v.pressure * swell

    ways = ways[:-1][joined]
    bow = 0.15j * normal[10, 1:][joined, None] * (ways[:, -1:] - ways[:, :1])
    bowed = ways + 2 * _ALONG * (1 - _ALONG) * bow
    light = (0.3 + 0.6 * uniform[7, 1:][joined, None]) * np.ones_like(_ALONG)

    # Short strokes are left out, but not a character's only ones.
    length = abs(np.diff(lines, axis=1)).sum(1)
    many = np.bincount(owner, minlength=len(hand))[owner] >= 5
    dropped = (abs(normal[11]) < 1.5 * v.drop * cursive) & (length < 0.25) & many
    lines = np.concatenate([lines[~dropped], bowed.astype(np.complex64)])
    pressure = np.concatenate([pressure[~dropped], light])
    owner = np.concatenate([owner[~dropped], owner[1:][joined]])

    whole = draws.normal.T
    x, y = lines.real, lines.imag
    angle = (v.turn_all * whole[0])[owner, None]
    slant = (v.slant * whole[1] + v.lean)[owner, None]
    rise = (v.rise * whole[2] + v.climb)[owner, None]
    aspect = np.exp((v.aspect * whole[3] - v.narrow) / 2)[owner, None]
    x, y = x * aspect, y / aspect
    x, y = x - (slant + angle) * y, y + (angle - rise) * x
    return x + 1j * y, np.clip(pressure, 0.4, 1.6), owner


def _trimmed(lines, begin, end, v: HandwritingStyle):
    """Strokes whose first points are missing, and whose ends are missing or run on."""
    first = v.trim / 3 * begin**3
    last = 1 + (v.extend + v.trim) * end - v.trim
    at = (first[:, None] + (last - first)[:, None] * _ALONG) * (POINTS - 1)
    low = np.clip(at.astype(np.int32), 0, POINTS - 2)
    part = (at - low).astype(np.float32)
    below = np.take_along_axis(lines, low, 1)
    return below + (np.take_along_axis(lines, low + 1, 1) - below) * part


def parting(lines, owner) -> np.ndarray:
    """How far apart lie what was written before a stroke and what comes from it on.

    Lines are complex64 (strokes of all characters, POINTS), and `owner` says which character each
    belongs to, ascending. Returned is float32, one a stroke: sides of the character along the axis
    on which they're farther apart, below 0 where they overlap, infinite before a character's first
    stroke. It's the larger of all strokes before and after and, less a little, of three of both.
    """
    count = np.bincount(owner)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    extremes = np.full((4, len(count), count.max() + 1), -np.inf, np.float32)
    for extreme, values in zip(
        extremes, (-lines.real, lines.real, -lines.imag, lines.imag), strict=True
    ):
        extreme[owner, place] = values.max(1)
    before = np.maximum.accumulate(extremes, axis=2)[..., :-1]
    after = np.maximum.accumulate(extremes[..., ::-1], axis=2)[..., ::-1][..., 1:]
    gaps = _gap(before, after)
    # Three on either side: what's before the second stroke of a window and after its third.
    wide = np.pad(extremes, ((0, 0), (0, 0), (2, 2)), constant_values=-np.inf)
    windows = np.maximum(np.maximum(wide[..., :-2], wide[..., 1:-1]), wide[..., 2:])
    gaps = np.maximum(gaps, _gap(windows[..., :-3], windows[..., 3:]) - _NEAR)
    whole = np.full((len(count), count.max() + 1), np.inf, np.float32)
    whole[:, 1:] = gaps
    return whole[owner, place]


def _gap(before, after) -> np.ndarray:
    """Between boxes (4, …) of -left, right, -top, bottom, along the axis where it's widest."""
    return np.maximum(-after[::2] - before[1::2], -before[::2] - after[1::2]).max(axis=0)


def _in_groups(lines, apart, normal, split, v: HandwritingStyle):
    """Parts of a character, each some strokes on end, moved and scaled as one."""
    begins = split < v.group_split / (1 + np.exp(-(apart + _NEAR) / (_NEAR / 2)))
    begins |= np.isinf(apart)
    first = np.flatnonzero(begins)
    group = np.cumsum(begins) - 1
    size = np.diff(np.append(first, len(lines)))
    centre = (np.add.reduceat(lines.mean(1), first) / size).astype(np.complex64)[group, None]
    own = normal[:, first][:, group, None]
    turned = (lines - centre) * np.exp(1j * v.group_turn * own[2])
    scaled = turned.real * (1 + v.group_scale * own[3]) + 1j * turned.imag * (
        1 + v.group_scale * own[4]
    )
    moved = centre + v.group_shift * (own[0] + 1j * own[1]) + scaled
    return moved.astype(np.complex64)


def _stretched(lines, owner, draws: _Draws, v: HandwritingStyle):
    """Each axis stretched here and pressed together there."""
    normal, uniform = draws.normal.T, draws.uniform.T
    amount = (v.stretch * normal[4:6])[:, owner, None]
    wave = (2 * np.pi * (0.5 + uniform[1:3]))[:, owner, None]
    phase = (2 * np.pi * uniform[3:5])[:, owner, None]
    x = lines.real + amount[0] * np.sin(wave[0] * lines.real + phase[0])
    y = lines.imag + amount[1] * np.sin(wave[1] * lines.imag + phase[1])
    return (x + 1j * y).astype(np.complex64)


def _bent(lines, owner, hand, draws: _Draws, v: HandwritingStyle):
    """Strokes moved by a smooth field: waves of random length, direction and phase."""
    amount = (v.bend + v.bend_cursive * hand) * np.sqrt(2 / _WAVES)
    strength = draws.normal[:, 12:].reshape(-1, 4, _WAVES)
    number = draws.uniform[:, 20:].reshape(-1, 4, _WAVES)
    moved = lines.copy()
    for k in range(_WAVES):
        length = 2 * np.pi / (0.6 + 1.0 * number[:, 0, k])
        vector = (length * np.exp(2j * np.pi * number[:, 1, k])).astype(np.complex64)[owner, None]
        angle = lines.real * vector.real + lines.imag * vector.imag
        angle += (2 * np.pi * number[:, 2, k])[owner, None]
        way = amount * (strength[:, 0, k] + 1j * strength[:, 1, k])
        moved += way.astype(np.complex64)[owner, None] * np.sin(angle)
    return moved


def _smoothed(lines, sigma, matrix):
    """Lines times the `matrix` of the level that smooths by about `sigma` points, one each."""
    level = np.rint(np.asarray(sigma) / _SMOOTHINGS[1]).astype(int)
    smoothed = np.empty((len(lines), matrix(0).shape[1]), np.complex64)
    for i in np.unique(level).tolist():
        chosen = level == i
        smoothed[chosen] = lines[chosen] @ matrix(i)
    return smoothed


@cache
def _along(level: int) -> np.ndarray:
    """complex64 (POINTS, POINTS): smooths strokes, with their ends where they are."""
    return smoothing(_SMOOTHINGS[level]).T.astype(np.complex64)


def flowing(lines, owner, sigma) -> tuple[np.ndarray, np.ndarray]:
    """Strokes smoothed as parts of one path, of which the pen's ways through the air are others.

    So hasty strokes begin and end on the way from and to their neighbours. The path's own ends
    stay where they are. Lines and owners are as for `parting`; sigma, in points, is the same for
    all strokes of a character.

    Returns:
        complex64 (strokes, POINTS) twice: the strokes, and the way from each to the next one; of
        a character's last stroke it's nothing that could be drawn.
    """
    first = np.append(True, owner[1:] != owner[:-1])[:, None]
    last = np.append(first[1:], [[True]], 0)
    start, stop = lines[:, :1], lines[:, -1:]
    earlier, later = np.roll(lines, 1, 0), np.roll(lines, -1, 0)
    came = earlier[:, -1:] + (start - earlier[:, -1:]) * _AIR
    went = stop + (later[:, :1] - stop) * _AIR
    # What's reflected in its end is smoothed and keeps it.
    before = np.where(
        first,
        2 * start - lines[:, _REACH:0:-1],
        np.concatenate([earlier[:, len(_AIR) - _REACH :], came], 1),
    )
    after = np.where(
        last,
        2 * stop - lines[:, -2 : -_REACH - 2 : -1],
        np.concatenate([went, later[:, : _REACH - len(_AIR)]], 1),
    )
    path = np.concatenate([before, lines, after], 1).astype(np.complex64)
    smooth = _smoothed(path, sigma, _flow)
    return smooth[:, :POINTS], smooth[:, POINTS:]


@cache
def _flow(level: int) -> np.ndarray:
    """complex64 (path, 2 * POINTS): from a path to its stroke and the way after it, smoothed."""
    length = POINTS + 2 * _REACH
    kernel = gaussian(length, _SMOOTHINGS[level])
    # A way has fewer points than are drawn; those in between lie on straight lines.
    end = _REACH + POINTS - 1
    at = end + ALONG * (len(_AIR) + 1)
    way = np.maximum(0, 1 - abs(at[:, None] - np.arange(length))) @ kernel
    stroke = kernel[_REACH : end + 1]
    return np.concatenate([stroke, way]).T.astype(np.complex64)
