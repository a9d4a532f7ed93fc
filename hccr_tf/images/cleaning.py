"""From a scan or a photograph of one character to clean paper: dark ink on 255.

`clean` takes an image as people have it: either polarity, coloured paper and ink, uneven light,
bars at its sides, ruled or framed paper, specks. What it returns is what the networks' own
preprocessing takes. An image that's clean already, such as those of CASIA-HWDB, stays as it is.
"""

import cv2
import numpy as np

from hccr_tf.images.layout import pen_width
from hccr_tf.utils.errors import HccrError

WHITE = 255
WORK_SIDE = 1024  # pixels of the longer side: small characters on photographs stay legible
_LIGHT_SIDE = 96  # pixels of the longer side at which uneven light is looked at
_FLAT_SHARE = 0.35  # of pixels that have the paper's grey level where an image is clean already
_LOWEST_CONTRAST = 12  # grey levels between paper and ink, below which there's nothing to read


class ImageError(HccrError):
    """A file that can't be read as an image, or an image that shows no single character."""


def clean(image: np.ndarray) -> np.ndarray:
    """Makes of an image of a character dark ink on white paper.

    Args:
        image: uint8 (H, W) grey, (H, W, 3) red, green, blue, or (H, W, 4) with opacity.

    Returns:
        uint8 (h, w), ink below 255 on 255; at most 1024 pixels on the longer side.

    Raises:
        ImageError: nothing is to be seen on it.
        HccrError: another type or shape.
    """
    channels = image.shape[2:] in ((), (1,), (3,), (4,))
    if image.dtype != np.uint8 or image.ndim < 2 or not channels or not image.size:
        kind = f"{image.dtype} {image.shape}"
        raise HccrError(f"An image is uint8 (H, W), (H, W, 3) or (H, W, 4), not {kind}.")
    longest = max(image.shape[:2])
    if longest > WORK_SIDE:
        size = [max(1, round(s * WORK_SIDE / longest)) for s in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    grey = _grey(image)
    grey, paper = _without_bars(grey)
    if int(grey.max()) - int(grey.min()) < _LOWEST_CONTRAST:
        # A ruled stroke, 一 or 丨, is all that's left of its image.
        if paper is None or abs(float(grey.mean()) - paper) < _LOWEST_CONTRAST:
            raise ImageError("it shows nothing but paper")
    # A bar's colour isn't the paper's; paper has a good part of what's left.
    elif paper is None or (abs(grey.astype(np.int16) - paper) <= 1).mean() < _FLAT_SHARE / 2:
        paper = _flat_paper(grey)
    if paper is not None:
        ink, least = _ink_on_flat(grey, paper), 0.2
    else:
        ink, least = _without_paper_edges(_ink_on_uneven(grey)), 0.6  # there's grain
    ink = _without_ruling(ink)
    ink = _without_specks(ink, least)
    if not ink.any():
        raise ImageError("it shows nothing but paper")
    return cv2.bitwise_not(ink)


def _grey(image: np.ndarray) -> np.ndarray:
    """One channel in which the ink stands out: grey, or of coloured images the best one."""
    if image.ndim == 2:
        return image
    if image.shape[2] == 1:
        return np.ascontiguousarray(image[..., 0])
    if image.shape[2] == 4:
        image = _opaque(image)
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Grey scans need no choice.
    if int(np.ptp(image.reshape(-1, 3).astype(np.int16), axis=1).max()) < 12:
        return luma
    # Coloured ruling and stamps vanish in the lightest of the channels, and ink that's dark in
    # all of them stays; coloured ink shows best in the channel with the most contrast.
    lightest = image.max(axis=2)
    best = max(map(np.ascontiguousarray, np.moveaxis(image, 2, 0)), key=_contrast)
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


def _opaque(image: np.ndarray) -> np.ndarray:
    """Lays an image over white, or over black where what's drawn is light."""
    opacity = image[..., 3:].astype(np.float32) / 255
    colour = image[..., :3]
    if opacity.min() == 1:
        return np.ascontiguousarray(colour)
    seen = opacity[..., 0] > 0.5
    ground = 0.0 if seen.any() and colour[seen].mean() > 170 else 255.0
    return np.rint(colour * opacity + ground * (1 - opacity)).astype(np.uint8)


def _without_bars(grey: np.ndarray) -> tuple[np.ndarray, int | None]:
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
    return np.ascontiguousarray(grey[top:bottom, left:right]), paper


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
    if ink.max() < _LOWEST_CONTRAST:
        raise ImageError("it shows nothing but paper")
    span = paper if ink is darker else 255 - paper
    if span < 200:  # coloured or grey paper: ink is made as dark as it would be on white
        span = max(_LOWEST_CONTRAST, int(np.percentile(ink[ink > ink.max() * 0.4], 90)))
    ink = np.minimum(ink * (255 / span), 255).astype(np.uint8)
    ink[ink <= WHITE - 240] = 0
    return ink


def _ink_on_uneven(grey: np.ndarray) -> np.ndarray:
    """Ink on paper whose light changes over the image, on which there's grain."""
    height, width = grey.shape
    shrink = max(1.0, max(height, width) / _LIGHT_SIDE)
    size = (max(3, round(width / shrink)), max(3, round(height / shrink)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    if _is_light_ink(small):
        grey, small = cv2.bitwise_not(grey), cv2.bitwise_not(small)
    # Closing lays paper over strokes; the median then takes grain and light grid lines away.
    side = 2 * (max(small.shape) // 6) + 1
    padded = cv2.copyMakeBorder(small, side, side, side, side, cv2.BORDER_REFLECT)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)
    closed = cv2.medianBlur(np.ascontiguousarray(closed), min(side, 31) | 1)
    closed = closed[side:-side, side:-side]
    paper = cv2.GaussianBlur(closed, (0, 0), side / 6)
    paper = cv2.resize(paper, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    # Light multiplies: so much of it the ink has swallowed.
    ink = np.clip(1 - grey / np.maximum(paper, 8.0), 0, 1)
    levels = (ink * 255).astype(np.uint8)
    blurred = cv2.GaussianBlur(levels, (0, 0), max(0.5, max(height, width) / 400))
    threshold, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    strong = blurred > threshold
    weak = blurred[~strong].astype(np.float32)
    # Of mere grain, too, one half is darker: by 2.7 times the spread of the other half.
    if not strong.any() or not len(weak):
        raise ImageError("it shows nothing but paper")
    least = max(_LOWEST_CONTRAST, 4 * float(weak.std()))
    if blurred[strong].mean() - weak.mean() < least:
        raise ImageError("it shows nothing but paper")
    full = float(np.percentile(levels[strong], 75))
    none = min(0.75 * threshold, 0.5 * full)
    clear = np.clip((levels - none) * (255 / (full - none)), 0, 255).astype(np.uint8)
    # Grain isn't ink: it stays only where something strong is beside it.
    near = cv2.dilate(strong.astype(np.uint8), np.ones((5, 5), np.uint8))
    return clear * near


def _is_light_ink(small: np.ndarray) -> bool:
    """Whether ink is lighter than paper.

    Ink stands out from what surrounds it; in doubt, paper has the border and the larger area.
    """
    side = 2 * (max(small.shape) // 4) + 1
    padded = cv2.copyMakeBorder(small, side, side, side, side, cv2.BORDER_REFLECT)
    paper = cv2.medianBlur(padded, side)[side:-side, side:-side].astype(np.int16)
    difference = small.astype(np.int16) - paper
    noise = 2.5 * np.median(abs(difference)) + 4
    lighter, darker = (np.maximum(s * difference - noise, 0).sum() for s in (1, -1))
    if max(lighter, darker) > 2 * min(lighter, darker):
        return bool(lighter > darker)
    threshold, _ = cv2.threshold(small, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    light = small > threshold
    border = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
    return (border.mean() < 0.5) + (light.mean() < 0.5) + (lighter > darker) >= 2


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
    for line in candidates:
        ruled[line] = 1
    rest = np.where(ruled, 0, ink)
    if (rest > 40).sum() < 0.08 * (ink > 40).sum():
        return ink
    # Ruling goes on where the character has ended, on all sides.
    left, top, wide, high = cv2.boundingRect((rest > 40).astype(np.uint8))
    free = min(left / width, top / height, 1 - (left + wide) / width, 1 - (top + high) / height)
    if free < 0.02:
        return ink
    # Where strokes crossed the lines they're mended from both sides.
    thickness = max(3, int(0.035 * min(height, width)))
    mended = cv2.morphologyEx(rest, cv2.MORPH_CLOSE, np.ones((thickness, thickness), np.uint8))
    return np.where(ruled, np.minimum(mended, ink), rest).astype(np.uint8)


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
