"""What cleaning leaves behind: remains of frames, ruling, neighbours, stamps and bad cameras.

Images are uint8, ink dark on 255, as they're drawn; they may grow by what's beside the ink.
"""

import cv2
import numpy as np

from hccr_tf.images.cleaning import WHITE

_TURN = 15  # degrees, at most
_SMALLEST = 16  # pixels of the longer side


def clutter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds one to three kinds of clutter to an image, which may grow; the ink stays most of it."""
    # What lies on the paper first, then what a camera and a file do to all of it.
    count = 1 + int(rng.random() < 0.35) + int(rng.random() < 0.12)
    for kind in sorted(rng.choice(len(KINDS), count, replace=False, p=_SHARES)):
        image = KINDS[kind](image, rng)
    return np.ascontiguousarray(image)


def _turned(image, rng):
    height, width = image.shape
    angle = rng.uniform(-_TURN, _TURN)
    map_ = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    sine, cosine = abs(np.sin(np.deg2rad(angle))), np.cos(np.deg2rad(angle))
    size = int(width * cosine + height * sine) + 1, int(height * cosine + width * sine) + 1
    map_[:, 2] += (np.array(size) - (width, height)) / 2
    return cv2.warpAffine(image, map_, size, borderValue=WHITE)


def _broken(image, rng):
    """Ink that ran dry: missing in blots, or along thin lines as where ruling was taken out."""
    if rng.random() < 0.5:
        cells = rng.random((max(3, image.shape[0] // 4), max(3, image.shape[1] // 4)), np.float32)
        gone = cv2.resize(cells, image.shape[::-1]) < rng.uniform(0.15, 0.35)
        return np.where(gone, WHITE, image).astype(np.uint8)
    image = image.copy()
    for _ in range(rng.integers(1, 4)):
        _line(image, *_across(image, rng), WHITE, 1)
    return image


def _frame(image, rng):
    """Pieces of a box's sides around the ink, or light ones of the crosses of 田字格 and 米字格."""
    image = _margin(image, rng, 0.12)
    height, width = image.shape
    around = rng.random() < 0.6
    if around:
        lines = [(0.02, 0, 0.02, 1), (0.98, 0, 0.98, 1), (0, 0.02, 1, 0.02), (0, 0.98, 1, 0.98)]
    else:
        lines = [(0.5, 0, 0.5, 1), (0, 0.5, 1, 0.5)]
        lines += [(0, 0, 1, 1), (0, 1, 1, 0)] * (rng.random() < 0.4)
    # What runs through the ink as dark as ink is a stroke for all that anybody can tell.
    grey, thick = (rng.integers(40, 225), rng.integers(1, 3)) if around else (_light(rng), 1)
    drawn = np.full_like(image, WHITE)
    for place in rng.permutation(len(lines))[: rng.integers(1, len(lines) + 1)]:
        ends = np.array(lines[place]) + rng.normal(0, 0.015, 4)
        first, last = np.sort(rng.random(2)) if rng.random() < 0.6 else (0, 1)
        start, stop = ends[:2], ends[2:]
        a, b = start + first * (stop - start), start + last * (stop - start)
        _line(drawn, a * (width, height), b * (width, height), int(grey), int(thick))
    if rng.random() < 0.4:  # dashed, or what a threshold left
        holes = np.indices(image.shape).sum(0) // rng.integers(2, 6) % 2 == 0
        drawn[holes] = WHITE
    return np.minimum(image, drawn)


def _ruled(image, rng):
    image = _margin(image, rng, 0.1)
    drawn = np.full_like(image, WHITE)
    for _ in range(rng.integers(1, 3)):
        _line(drawn, *_across(image, rng), _light(rng), 1)
    return np.minimum(image, drawn)


def _light(rng) -> int:
    return int(rng.integers(130, 230))


def _neighbour(image, rng):
    """Strokes of a neighbour at one side: a strip of the image itself, mirrored."""
    turns = int(rng.integers(4))
    image = np.rot90(image, turns)
    height, width = image.shape
    strip = image[::-1, : max(2, int(width * rng.uniform(0.08, 0.22)))]
    strip = np.roll(strip, int(rng.integers(height)), 0).copy()
    begin = int(rng.uniform(0, 0.6) * height)
    strip[:begin], strip[begin + int(rng.uniform(0.2, 0.7) * height) :] = WHITE, WHITE
    gap = np.full((height, max(1, int(width * rng.uniform(0.04, 0.15)))), WHITE, np.uint8)
    return np.rot90(np.concatenate([image, gap, strip], 1), -turns)


def _stain(image, rng):
    """What's left of a shadow or a stamp: a soft blot, or an arc, lighter than the ink."""
    height, width = image.shape
    side = max(height, width)
    blot = np.zeros(image.shape, np.uint8)
    centre = [int(v) for v in rng.uniform(0, 1, 2) * (width, height)]
    axes = [max(2, int(v)) for v in rng.uniform(0.1, 0.5, 2) * side]
    arc = rng.random() < 0.5
    start = int(rng.integers(360))
    angle, stop = int(rng.integers(180)), start + int(rng.integers(60, 360))
    thick = int(rng.integers(1, 4)) if arc else -1
    cv2.ellipse(blot, centre, axes, angle, start, stop, 255, thick)
    blot = cv2.GaussianBlur(blot, (0, 0), 0.5 if arc else side * rng.uniform(0.02, 0.1))
    dark = rng.uniform(0.15, 0.6) if arc else rng.uniform(0.05, 0.3)
    return np.minimum(image, WHITE - (dark * blot).astype(np.uint8))


def _speckled(image, rng):
    image = _margin(image, rng, 0.08)
    for _ in range(rng.integers(1, 12)):
        y, x = (rng.random(2) * image.shape).astype(int)
        h, w = rng.integers(1, 3, 2)
        image[y : y + h, x : x + w] = np.minimum(image[y : y + h, x : x + w], rng.integers(0, 200))
    return image


def _small(image, rng):
    scale = rng.uniform(_SMALLEST, 2 * _SMALLEST) / max(image.shape)
    if scale >= 1:
        return image
    size = [max(2, round(side * scale)) for side in image.shape[::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _compressed(image, rng):
    padded = np.pad(image, 4, constant_values=WHITE)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(8, 45))]
    return cv2.imdecode(cv2.imencode(".jpg", padded, quality)[1], cv2.IMREAD_GRAYSCALE)


KINDS = (_turned, _broken, _frame, _ruled, _neighbour, _stain, _speckled, _small, _compressed)
_SHARES = np.array([3, 2, 3, 2, 3, 2, 2, 3, 2]) / 22


def _margin(image, rng, most: float) -> np.ndarray:
    """An image with its paper on all sides, up to a part of its longer side."""
    return np.pad(image, int(rng.uniform(0, most) * max(image.shape)) + 1, constant_values=WHITE)


def _across(image, rng) -> tuple[np.ndarray, np.ndarray]:
    """Ends of a nearly level or upright line through an image."""
    height, width = image.shape
    at = rng.uniform(0, 1) + np.array([0, rng.normal(0, 0.03)])
    if rng.random() < 0.7:
        return np.array([0, at[0] * height]), np.array([width, at[1] * height])
    return np.array([at[0] * width, 0]), np.array([at[1] * width, height])


def _line(image, start, stop, grey: int, thick: int) -> None:
    first, last = (np.rint(np.asarray(end) * 16).astype(int).tolist() for end in (start, stop))
    cv2.line(image, first, last, grey, thick, cv2.LINE_AA, 4)
