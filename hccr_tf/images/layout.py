"""Whether a clean image is one character, or a line, a column or a page of several."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np


@dataclass(frozen=True)
class LayoutGuess:
    """How ink lies on an image.

    Attributes:
        rows: lines of characters, 1 for a single character.
        characters: how many characters there seem to be.
    """

    rows: int
    characters: int


def count_characters(image: np.ndarray) -> LayoutGuess:
    """Whether a clean image is one character, or a line, a column or a page of several.

    Parts of one character are narrow, or lie beside each other within a square; characters are
    about as wide as they're high.

    Args:
        image: uint8 (H, W), dark ink on 255, as `clean` makes it.

    Returns:
        The layout; `LayoutGuess(1, 1)` in doubt.
    """
    mask = image < 200
    if not mask.any():
        return LayoutGuess(1, 1)
    lines = _blocks(mask, axis=1)
    least = 5 * pen_width(mask)
    own = _count_in_line(mask, least)
    if own > 1:
        return LayoutGuess(1, own)
    # Upright, two parts of one tall character (宁, 寺) look like two characters.
    own = _count_in_line(mask.T, least)
    if own > 2:
        return LayoutGuess(own, own)
    counts = [_count_in_line(mask[top:bottom], least) for top, bottom in lines]
    if len(lines) > 1 and min(counts) > 1:
        return LayoutGuess(len(lines), sum(counts))
    return LayoutGuess(1, 1)


def several_characters(layout: LayoutGuess) -> str:
    """Why an image of several characters isn't read, and what to do."""
    kind = {1: "a line", layout.characters: "a column"}.get(layout.rows, "a page")
    return (
        f"it looks like {kind} of about {layout.characters} characters, and this reads "
        "single ones; cut it into images of one character each, or take it as one "
        "all the same (--any-layout, single=False)"
    )


def halves(image: np.ndarray) -> list[np.ndarray]:
    """Cuts a clean image, uint8 (H, W), where it may be two characters one above the other.

    Returns:
        The upper and the lower, or none: where the ink isn't half as high again as wide, or has
        no gap in the middle third. Many a single character (宁, 寺) has one, too.
    """
    lines = _blocks(image < 200, axis=1)
    columns = np.flatnonzero((image < 200).any(axis=0))
    if len(lines) < 2:
        return []
    top, bottom = lines[0][0], lines[-1][1]
    height = bottom - top
    gaps = [(upper[1], lower[0]) for upper, lower in pairwise(lines)]
    gaps = [g for g in gaps if height / 3 < (g[0] + g[1]) / 2 - top < 2 * height / 3]
    if not gaps or height < 1.5 * (columns[-1] + 1 - columns[0]):
        return []
    end, begin = max(gaps, key=lambda gap: gap[1] - gap[0])
    return [image[top:end], image[begin:bottom]]


def pen_width(mask: np.ndarray) -> float:
    """Width of most lines in pixels."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    return 2 * float(np.percentile(inside[inside > 0], 75))


def _count_in_line(mask: np.ndarray, least: float) -> int:
    """How many characters stand in a row of ink, by its gaps; lower than `least` it's a stroke."""
    rows = np.flatnonzero(mask.any(axis=1))
    blocks = _blocks(mask, axis=0)
    if not len(rows) or len(blocks) < 2:
        return 1
    height = rows[-1] + 1 - rows[0]
    width = blocks[-1][1] - blocks[0][0]
    if width < 1.7 * height or height < least:
        return 1
    # Blocks nearer to each other than parts of one character are joined up to a square.
    groups = [list(blocks[0])]
    for begin, end in blocks[1:]:
        if end - groups[-1][0] <= 1.15 * height:
            groups[-1][1] = end
        else:
            groups.append([begin, end])
    wide = [g for g in groups if g[1] - g[0] >= 0.35 * height]
    return len(wide) if len(wide) > 1 else 1


def _blocks(mask: np.ndarray, axis: int) -> list[tuple[int, int]]:
    """Ranges of columns (axis 0) or rows (axis 1) that have ink, parted by gaps."""
    filled = mask.any(axis=axis).astype(np.int8)
    edges = np.diff(np.concatenate([[0], filled, [0]]))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(begins.tolist(), ends.tolist(), strict=True))
