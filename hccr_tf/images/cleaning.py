"""From a scan or a photograph of one character to clean paper: dark ink on 255.

`clean` takes an image as people have it: either polarity, coloured paper and ink, uneven light,
bars at its sides, a sheet on a table, ruled or framed paper, specks. What it returns is what the
networks' own preprocessing takes. An image that's clean already, such as those of CASIA-HWDB, stays
as it is. `candidates` goes on with what else may be the character.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from hccr_tf.images.layout import pen_width
from hccr_tf.images.paper import (
    LOWEST_CONTRAST,
    ImageError,
    inks_on_paper,
    opaque,
    straighten_sheet,
)
from hccr_tf.images.parts import alternatives, mended, without_lines

WHITE = 255
WORK_SIDE = 1024  # pixels of the longer side: small characters on photographs stay legible
_BORDER_SHARE = 0.6  # of the border that even paper has; of CASIA-HWDB's images at least 0.8
_FLAT_SHARE = 0.35  # of pixels that have the paper's grey level where an image is clean already


def clean(image: np.ndarray) -> np.ndarray:
    """Makes of an image of a character dark ink on white: the first of `candidates`."""
    return next(candidates(image))


def candidates(image: np.ndarray) -> Iterator[np.ndarray]:
    """Cleans an image of a character in several ways, the likeliest first.

    Args:
        image: uint8 (H, W) grey, (H, W, 3) red, green, blue, or (H, W, 4) with opacity.

    Yields:
        uint8 (h, w), ink below 255 on 255; at most 1024 pixels on the longer side. All of the ink,
        then without lines, boxes, and what lies at the border or apart, as far as there are any.

    Raises:
        ImageError: nothing is to be seen on it, or it's of another type or shape.
    """
    channels = image.shape[2:] in ((), (1,), (3,), (4,))
    if image.dtype != np.uint8 or image.ndim < 2 or not channels or not image.size:
        kind = f"{image.dtype} {image.shape}"
        raise ImageError(f"An image is uint8 (H, W), (H, W, 3) or (H, W, 4), not {kind}.")
    longest = max(image.shape[:2])
    if longest > WORK_SIDE:
        size = [max(1, round(s * WORK_SIDE / longest)) for s in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    image = opaque(image)
    grey, place, paper, is_margin = _find_paper(image)
    sheet = None if is_margin else straighten_sheet(image)
    if sheet is not None:
        yield from candidates(sheet)
        return
    rows, columns = place
    is_edge = (
        columns.start == 0,
        rows.start == 0,
        columns.stop == image.shape[1],
        rows.stop == image.shape[0],
    )
    cleaned = []
    if paper is not None:
        cleaned.append(_without_specks(_without_ruling(_ink_on_flat(grey, paper)), 0.2))
        yield cv2.bitwise_not(cleaned[0])
        if all(is_edge):
            return  # cut to the ink by somebody who knew what belongs to it
    else:
        for ink in inks_on_paper(np.ascontiguousarray(image[place])):
            ink = _without_ruling(without_lines(_without_paper_edges(ink), through=True))
            ink = _without_specks(ink, 0.6)  # there's grain
            if ink.any():
                cleaned.append(ink)
                yield cv2.bitwise_not(ink)
    if not cleaned:
        raise ImageError("it shows nothing but paper")
    for ink in cleaned:
        yield from map(cv2.bitwise_not, alternatives(ink, is_edge))


def _find_paper(image: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice], int | None, bool]:
    """Finds even paper on an image uint8 (H, W, 3).

    Returns:
        The grey image without bars, where in the image it lies, the paper's grey level, None where
        paper is not even or doesn't reach the border, and whether paper is surely what's around:
        a margin of one colour around most of another may be a table.
    """
    grey = _grey(image)
    place, paper = _without_bars(grey)
    grey = np.ascontiguousarray(grey[place])
    if int(grey.max()) - int(grey.min()) < LOWEST_CONTRAST:
        # A ruled stroke, 一 or 丨, is all that's left of its image.
        if paper is None or abs(float(grey.mean()) - paper) < LOWEST_CONTRAST:
            raise ImageError("it shows nothing but paper")
        return grey, place, paper, True
    flat = _flat_paper(grey)
    # A bar's colour isn't the paper's, which has a good part of what's left but of single strokes.
    share = (abs(grey.astype(np.int16) - paper) <= 1).mean() if paper is not None else 0
    if share < _FLAT_SHARE / 2 and (paper is None or grey.size > 0.1 * image[..., 0].size):
        paper = flat
        border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).astype(np.int16)
        if paper is not None and (abs(border - paper) <= 2).mean() < _BORDER_SHARE:
            paper = None
    return grey, place, paper, paper is not None and (flat is None or abs(flat - paper) <= 2)


def _grey(image: np.ndarray) -> np.ndarray:
    """One channel in which the ink stands out: grey, or of coloured images the best one."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    red, green, blue = channels = cv2.split(image)
    lightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    # Grey scans need no choice.
    if cv2.subtract(lightest, darkest).max() < 12:
        return luma
    # Coloured ruling and stamps vanish in the lightest of the channels, and ink that's dark in
    # all of them stays; coloured ink shows best in the channel with the most contrast.
    best = max(channels, key=_contrast)
    if _contrast(lightest) >= 0.7 * _contrast(luma):
        return lightest
    return best if _contrast(best) > 1.3 * _contrast(luma) else luma


def _contrast(grey: np.ndarray) -> float:
    """Grey levels between the two classes that best part an image's pixels."""
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    low = grey <= threshold
    if low.all() or not low.any():
        return 0.0
    return float(grey[~low].mean() - grey[low].mean())


def _without_bars(grey: np.ndarray) -> tuple[tuple[slice, slice], int | None]:
    """Cuts even rows and columns off the sides: margins, and bars of another colour.

    Returns:
        What's left, and the paper's grey level where it was seen: that of the last rows and
        columns that were cut at first.
    """
    top, bottom, left, right = 0, grey.shape[0], 0, grey.shape[1]
    paper: int | None = None
    seen: list[int] = []
    while True:
        inner = grey[top:bottom, left:right]
        rows, columns = np.ptp(inner, axis=1) <= 2, np.ptp(inner, axis=0) <= 2
        if rows.all() or columns.all():
            break
        cuts = []
        for even, levels in (
            (rows, inner[:, 0]),
            (rows[::-1], inner[::-1, 0]),
            (columns, inner[0]),
            (columns[::-1], inner[0, ::-1]),
        ):
            if paper is not None:
                # Once margins are gone, strokes can run from side to side.
                even = even & (abs(levels.astype(np.int16) - paper) <= 2)
            cuts.append(int(np.argmin(even)))
            if paper is None and cuts[-1]:
                seen.append(int(levels[cuts[-1] - 1]))
        if paper is None and seen:
            paper = max(set(seen), key=seen.count)
        if not any(cuts):
            break
        top, bottom = top + cuts[0], bottom - cuts[1]
        left, right = left + cuts[2], right - cuts[3]
    return (slice(top, bottom), slice(left, right)), paper


def _flat_paper(grey: np.ndarray) -> int | None:
    """The paper's grey level where it's the same all over the image."""
    counts = np.bincount(grey.reshape(-1), minlength=256)
    near = np.convolve(counts, np.ones(3, np.int64), "same")
    level = int(near.argmax())
    return level if near[level] >= _FLAT_SHARE * grey.size else None


def _ink_on_flat(grey: np.ndarray, paper: int) -> np.ndarray:
    """Ink on even paper, its own grey levels kept where paper is white or black."""
    difference = paper - grey.astype(np.int16)
    darker, lighter = np.maximum(difference, 0), np.maximum(-difference, 0)
    ink = darker if darker.sum() >= lighter.sum() else lighter
    if ink.max() < LOWEST_CONTRAST:
        raise ImageError("it shows nothing but paper")
    span = paper if ink is darker else 255 - paper
    if span < 200:  # coloured or grey paper: ink is made as dark as it would be on white
        span = max(LOWEST_CONTRAST, int(np.percentile(ink[ink > ink.max() * 0.4], 90)))
    ink = np.minimum(ink * (255 / span), 255).astype(np.uint8)
    ink[ink <= WHITE - 240] = 0
    return ink


def _without_paper_edges(ink: np.ndarray) -> np.ndarray:
    """Takes away what's thick and lies along the image's edge: a table, a finger, a shadow."""
    height, width = ink.shape
    number, labels, stats, _ = cv2.connectedComponentsWithStats((ink > 64).astype(np.uint8))
    edge = np.zeros(number, bool)
    for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        found, counts = np.unique(line[line > 0], return_counts=True)
        edge[found[counts > 0.5 * len(line)]] = True
    if not edge.any() or edge[1:].all():
        return ink
    _, _, wide, high, areas = stats.T
    solid = areas > 0.35 * (wide * high)
    return np.where((edge & solid)[labels], np.uint8(0), ink)


def _without_ruling(ink: np.ndarray) -> np.ndarray:
    """Takes away straight lines that run through the whole image: frames, grids, ruled paper.

    A character's own strokes aren't as straight, or don't run from edge to edge on two sides.
    """
    height, width = ink.shape
    if min(height, width) < 24:
        return ink
    mask = (ink > 40).astype(np.uint8)
    candidates = []
    for size, axis in ((width, 1), (height, 0)):
        # Lines may be drawn with gaps, and stand a little askew.
        reach = max(3, size // 12)
        bridge = np.ones((1, reach) if axis else (reach, 1), np.uint8)
        joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, bridge)
        length = int(0.6 * size)
        kernel = np.ones((1, length) if axis else (length, 1), np.uint8)
        lines = cv2.morphologyEx(joined, cv2.MORPH_OPEN, kernel)
        extent = lines.any(axis=1 - axis).mean()
        if extent < 0.93:
            continue
        profile = lines.sum(axis=axis) > 0.85 * size
        starts = np.flatnonzero(np.diff(np.concatenate([[0], profile.astype(np.int8)])) == 1)
        ends = np.flatnonzero(np.diff(np.concatenate([profile.astype(np.int8), [0]])) == -1) + 1
        thin = (ends - starts) <= max(2, 0.035 * min(height, width))
        for start, end in zip(starts[thin], ends[thin], strict=True):
            across = slice(max(0, int(start) - 1), int(end) + 1)
            candidates.append((across, slice(None)) if axis else (slice(None), across))
    # One line alone may be a stroke; and what is only lines is a character of lines (一, 十, 口).
    if len(candidates) < 2:
        return ink
    ruled = np.zeros_like(mask)
    widest = 0
    for line in candidates:
        ruled[line] = 1
        widest = max(widest, min(ruled[line].shape))
    rest = np.where(ruled, 0, ink)
    if (rest > 40).sum() < 0.08 * (ink > 40).sum():
        return ink
    # Ruling goes on where the character has ended, on all sides.
    left, top, wide, high = cv2.boundingRect((rest > 40).astype(np.uint8))
    free = min(left / width, top / height, 1 - (left + wide) / width, 1 - (top + high) / height)
    if free < 0.02:
        return ink
    return mended(ink, ruled, max(3, widest))


def _without_specks(ink: np.ndarray, least: float) -> np.ndarray:
    """Takes away what's smaller than a dot of this pen: than `least` times its width squared."""
    mask = ink > min(48, 0.25 * int(ink.max()))  # faint pens, too
    number, labels = cv2.connectedComponents(mask.astype(np.uint8))
    if number <= 2:
        return ink
    # By ink, so that faint grain counts for less than a dot.
    shares = np.minimum(ink.astype(np.float32) / (0.5 * int(ink.max())), 1)
    areas = np.bincount(labels.reshape(-1), shares.reshape(-1), number)[1:]
    pen = pen_width(mask)
    small = areas < max(least * pen**2, 0.0008 * areas.sum())
    if not small.any() or small.all():
        return ink
    specks = np.concatenate([[False], small])[labels]
    around = cv2.dilate(specks.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return np.where(around & ((labels == 0) | specks), np.uint8(0), ink)
