"""Images of pen paths: a batch of characters on one canvas, then paper and scanner."""

from functools import cache

import cv2
import numpy as np

from hccr_tf.images.cleaning import WHITE
from hccr_tf.synthesis.geometry import POINTS
from hccr_tf.synthesis.style import HandwritingStyle

_OVERSAMPLE = 2
_DRAWN = [*range(0, POINTS - 2, 2), POINTS - 1]  # of a stroke's points; it's smooth between them
_SUBPIXEL_BITS = 4
_SHADES = 5
_LEVELS = np.arange(256) / 255
_NOISE_SIDE = 1024  # more than any image's


@cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((_NOISE_SIDE, _NOISE_SIDE), np.float32)


def ink_lines(lines, pressure, owner, normal, uniform, v: HandwritingStyle) -> list[np.ndarray]:
    """Draws lines: all on one canvas, one character below the other.

    Lines, complex64, and pressure, relative widths of the pen, are (lines of all characters,
    POINTS); `owner` says which character each belongs to, and `normal` and `uniform` are each
    character's own random numbers (B, …). Returned are B images, uint8 (height, width).
    """
    number = len(uniform)
    uniform = uniform.T
    side = v.side_low + (v.side_high - v.side_low) * uniform[5]
    pen = v.pen_low * (v.pen_high / v.pen_low) ** uniform[6]
    blur = v.blur * uniform[7]
    noise = v.noise * uniform[13] ** 2
    tone = np.exp(v.tone * normal[:, 6])

    # Every character is made to fill its image.
    x, y, pressure = lines.real[:, _DRAWN], lines.imag[:, _DRAWN], pressure[:, _DRAWN]
    low = np.full((2, number), np.inf, np.float32)
    high = -low
    for axis, values in enumerate((x, y)):
        np.minimum.at(low[axis], owner, values.min(1))
        np.maximum.at(high[axis], owner, values.max(1))
    # A single short stroke (一, 丶) isn't blown up to nothing but a blot.
    extent = np.maximum((high - low).max(0), 0.3)
    scale = side / (extent + pen)
    pen_pixels = pen * scale
    reach = pen_pixels * (0.8 + 1.5 * blur) + 1
    cell = int(np.ceil(v.side_high + 2 * reach.max())) + 2
    left, top = reach - low * scale
    top = top + np.arange(number) * cell
    width, height = np.ceil((high - low) * scale + 2 * reach).astype(int)
    columns = x * scale[owner, None] + left[owner, None]
    rows = y * scale[owner, None] + top[owner, None]
    pixels = np.stack([columns, rows], -1)
    fixed = np.rint(pixels * (_OVERSAMPLE << _SUBPIXEL_BITS) - (1 << (_SUBPIXEL_BITS - 1))).astype(
        np.int32
    )
    segments = np.stack([fixed[:, :-1], fixed[:, 1:]], 2).reshape(-1, 2, 2)
    pressure = ((pressure[:, :-1] + pressure[:, 1:]) / 2).reshape(-1)
    thickness = np.rint(np.repeat(pen_pixels[owner], len(_DRAWN) - 1) * pressure * _OVERSAMPLE)
    thickness = np.maximum(thickness.astype(np.int32), 2)
    # Where the pen is light, ink is light: 0 for full ink.
    lightness = (1 - v.fade) * np.clip((1.0 - pressure) / 0.6, 0, 1)
    lightness *= np.repeat(uniform[8][owner], len(_DRAWN) - 1)
    shade = np.rint(lightness * (_SHADES - 1)).astype(np.int32)

    canvas = np.zeros((number * cell * _OVERSAMPLE, cell * _OVERSAMPLE), np.uint8)
    kind = (_SHADES - 1 - shade) * 1024 + thickness
    order = np.argsort(kind, kind="stable")
    segments, kind = segments[order], kind[order]
    starts = np.flatnonzero(np.append(True, kind[1:] != kind[:-1]))
    # Light lines first: where lines cross, the darker one stays.
    for begin, end in zip(starts, [*starts[1:], len(kind)], strict=True):
        tint, thick = divmod(int(kind[begin]), 1024)
        level = 255.0 * (1 - (_SHADES - 1 - tint) / (_SHADES - 1))
        alike = list(segments[begin:end])
        cv2.polylines(canvas, alike, False, level, thick, cv2.LINE_8, _SUBPIXEL_BITS)
    ink = cv2.resize(canvas, (cell, number * cell), interpolation=cv2.INTER_AREA)

    images = []
    for i in range(number):
        image = ink[i * cell : i * cell + height[i], : width[i]]
        if v.grain:
            cells = (np.array([height[i], width[i]]) / max(pen_pixels[i] / 3, 1.5)).astype(int) + 1
            grain = np.random.default_rng(int(uniform[9, i] * 2**24)).random(cells, np.float32)
            grain = cv2.resize(grain, (width[i], height[i]))
            image = (image * (1 - v.grain * uniform[10, i] * grain)).astype(np.uint8)
        soft = v.soften * side[i] * uniform[12, i] ** 4
        sigma = float(np.hypot(blur[i] * pen_pixels[i], soft))
        if sigma > 0.2:
            image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
        if noise[i] > 0.04:
            h, w = image.shape
            top, left = (uniform[14:16, i] * (_NOISE_SIDE - np.array([h, w]))).astype(int)
            image = image * (1 + noise[i] * _noise()[top : top + h, left : left + w])
        # One table of grey levels does the rest: the scanner's curve and how dark the pen is.
        dark = 1 - (1 - v.ink) * float(uniform[11, i]) ** 1.5
        table = WHITE - WHITE * dark * _LEVELS ** float(tone[i])
        levels = np.clip(image, 0, 255).astype(np.uint8)
        images.append(cv2.LUT(levels, np.rint(table).astype(np.uint8)))
    return images
