"""What may not belong to a character: lines of the paper, boxes, neighbours, things apart.

None of it can be told from strokes by its shape alone (国 has a box, 一 is a line), so these are
offers, for a recogniser that doubts what it read.
"""

from functools import partial

import cv2
import numpy as np

_INK = 64  # levels of ink from which on a pixel belongs to a part
_FAINT = 40  # levels of what's seen at all
_LEAST = 0.25  # of an image's ink that must be left, where it isn't lines that go


def alternatives(ink: np.ndarray, is_edge: tuple[bool, ...]) -> list[np.ndarray]:
    """Takes away, one after another and together, what may not belong to the character.

    Args:
        ink: uint8 (H, W), 0 where there's none to 255.
        is_edge: whether the left, top, right and bottom are those of the image as it was.

    Returns:
        Images of the same kind, of which each has less ink; none where there's nothing to take.
    """
    found = [ink]
    for without in (
        without_lines,
        _without_enclosing,
        partial(_without_border, is_edge=is_edge),
        _without_apart,
    ):
        for one in list(found):
            less = without(one)
            if less is None or _is_stroke_of(ink, less):
                continue
            if all(_differ(less, other) for other in found):
                found.append(less)
    return found[1:]


def _is_stroke_of(ink: np.ndarray, left: np.ndarray) -> bool:
    """Whether what's left is a bar, but not amid what went: always sure to be 一, of 十 too."""
    bar, gone = np.array(_box(left)), np.array(_box(np.where(left, np.uint8(0), ink)))
    high, wide = bar[2:] - bar[:2]
    is_amid = (gone[:2] < bar[:2]).all() and (gone[2:] > bar[2:]).all()
    return bool(min(high, wide) < 0.4 * max(high, wide) and not is_amid)


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.count_nonzero((one > 16) != (other > 16)) > 20)


def without_lines(ink: np.ndarray, through: bool = False) -> np.ndarray:
    """Takes away straight lines that are longer than all else is; mends strokes that cross them.

    Args:
        ink: uint8 (H, W).
        through: whether only ruling goes, which runs through the image and around the character.

    Returns:
        The ink that's left; all of it where there are no such lines.
    """
    side = max(ink.shape)
    mask = (ink > _INK).astype(np.uint8)
    found = cv2.HoughLinesP(
        mask, 1, np.pi / 360, side // 8, minLineLength=side // 6, maxLineGap=side // 40
    )
    if found is None:
        return ink
    lines = found.reshape(-1, 4)
    lengths = np.hypot(lines[:, 2] - lines[:, 0], lines[:, 3] - lines[:, 1])
    width = max(3, side // 150)
    for least in side * np.array([0.17, 0.25, 0.35, 0.5, 0.7]):
        if not (lengths >= least).any():
            break
        drawn = np.zeros_like(mask)
        for line in lines[lengths >= least].tolist():
            cv2.line(drawn, line[:2], line[2:], 1, width)
        rest = np.where(drawn, np.uint8(0), ink)
        main = _without_apart(rest)
        box = np.array(_box(rest if main is None else main))
        outer = np.array(_box(drawn, 0))
        high, wide = box[2:] - box[:2]
        if through:
            is_around = (outer[:2] < box[:2]).all() and (outer[2:] > box[2:]).all()
            if not is_around or ((outer[2:] - outer[:2]) / ink.shape).max() < 0.9:
                continue
        if max(high, wide) < least and min(high, wide) > 0.05 * side:
            return mended(ink, drawn, width)
    return ink


def mended(ink: np.ndarray, lines: np.ndarray, width: int) -> np.ndarray:
    """Takes away lines of up to `width` pixels, but for strokes that cross them.

    Strokes are what's darker than the lines, where the pen is; else they go on from both sides.
    """
    rest = np.where(lines, np.uint8(0), ink)
    closed = cv2.morphologyEx(rest, cv2.MORPH_CLOSE, np.ones((width + 2,) * 2, np.uint8))
    kept = np.minimum(closed, ink)
    pen, line = (np.median(seen[seen > _FAINT]) for seen in (rest, ink[lines > 0]))
    if pen > 1.5 * line:
        kept = np.where(ink > (pen + line) / 2, ink, kept)
    return np.where(lines, kept, rest)


def _box(ink: np.ndarray, least: int = _INK) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of what's above a level."""
    left, top, wide, high = cv2.boundingRect((ink > least).astype(np.uint8))
    return top, left, top + high, left + wide


def _parts(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (H, W) of ink that hangs together, and left, top, right, bottom and area of each."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((ink > _INK).astype(np.uint8))
    boxes = np.array(stats, np.int64)
    boxes[:, 2:4] += boxes[:, :2]
    return labels, boxes


def _kept(ink: np.ndarray, labels: np.ndarray, keep: np.ndarray, least: float) -> np.ndarray | None:
    """The parts that are to be kept with their soft edges, if they are some but not all."""
    keep[0] = False
    areas = np.bincount(labels.reshape(-1), minlength=len(keep))[1:]
    if areas[keep[1:]].sum() < max(least * areas.sum(), 20):
        return None
    near = cv2.dilate(keep[labels].astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    return np.where(near & (keep[labels] | (labels == 0)), ink, np.uint8(0))


def _without_enclosing(ink: np.ndarray) -> np.ndarray | None:
    """What lies within a box or a circle."""
    labels, stats = _parts(ink)
    for box in np.argsort(-np.prod(stats[:, 2:4] - stats[:, :2], axis=1)):
        left, top, right, bottom, area = stats[box]
        if box == 0 or area > 0.3 * (right - left) * (bottom - top):
            continue
        inside = (stats[:, 0] > left) & (stats[:, 1] > top)
        inside &= (stats[:, 2] < right) & (stats[:, 3] < bottom)
        if inside.any():
            return _kept(ink, labels, inside, 0.1)
    return None


def _without_border(ink: np.ndarray, is_edge: tuple[bool, ...]) -> np.ndarray | None:
    """What doesn't touch the image's border, unless there's ink along all of it: a tight cut."""
    labels, stats = _parts(ink)
    height, width = ink.shape
    edge = max(2, 0.01 * max(height, width))
    reaches = np.abs(stats[:, :4] - [0, 0, width, height]) <= edge
    reaches &= is_edge
    if reaches[1:].any(axis=0).all():
        return None
    return _kept(ink, labels, ~reaches.any(axis=1), 2 * _LEAST)


def _without_apart(ink: np.ndarray) -> np.ndarray | None:
    """The largest part and what's near to it, by a third of what's there so far."""
    labels, stats = _parts(ink)
    if len(stats) < 3:
        return None
    keep = np.arange(len(stats)) == 1 + stats[1:, 4].argmax()
    while True:
        low, high = stats[keep, :2].min(axis=0), stats[keep, 2:4].max(axis=0)
        reach = 0.35 * (high - low).max()
        near = (stats[:, :2] < high + reach).all(axis=1) & (stats[:, 2:4] > low - reach).all(axis=1)
        near[0] = False
        if (near == keep).all():
            return _kept(ink, labels, keep, 2 * _LEAST)
        keep = near
