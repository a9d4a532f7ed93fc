"""From a scan or a photograph of one character to clean paper: dark ink on 255.

`clean` takes a picture as people have it: either polarity, coloured paper and ink, uneven light,
bars at its sides, ruled or framed paper, specks. What it returns is what the networks' own
preprocessing takes. A picture that's clean already, such as those of CASIA-HWDB, stays as it is.

`count_characters` says whether a clean picture is one character or a line or page of several.
"""

import glob
import io
import os
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.data.preprocessing import WHITE

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MAX_BYTES = 128 << 20
MAX_PIXELS = 200_000_000  # a telephone's; a file of some kilobytes can claim more

_WORK_SIDE = 1024  # pixels of the longer side: small characters on photographs stay legible
_FULL_SCALES = (1, 255, 1023, 4095, 16383, 65535)
_LIGHT_SIDE = 96  # pixels of the longer side at which uneven light is looked at
_FLAT_SHARE = 0.35  # of pixels that have the paper's grey level where a picture is clean already
_LOWEST_CONTRAST = 12  # grey levels between paper and ink, below which there's nothing to read


class PictureError(ValueError):
    """A file that can't be read as a picture, or a picture that shows no single character."""


def decode(data: bytes) -> np.ndarray:
    """Decodes a picture file as it's meant to be seen: turned as its EXIF data say.

    Args:
        data: a PNG, JPEG, BMP, TIFF or WebP file; of several pictures the first counts.

    Returns:
        uint8 (H, W, 4): red, green, blue and opacity.

    Raises:
        PictureError: it can't be decoded, or is larger than 200 million pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise PictureError("it's empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, which are checked here
            picture = Image.open(io.BytesIO(data))
            if picture.width * picture.height > MAX_PIXELS:
                raise PictureError(f"it has more than {MAX_PIXELS // 10**6} million pixels")
            if picture.format == "JPEG":  # decoded smaller, which takes a fraction of the time
                picture.draft("RGB", (2 * _WORK_SIDE, 2 * _WORK_SIDE))
            picture.load()
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I") or picture.mode == "F":
                values = np.nan_to_num(np.asarray(picture, np.float64), posinf=0, neginf=0)
                # Numbers of 0 to 1, or of as many bits as the brightest needs.
                highest = next((h for h in _FULL_SCALES if h >= values.max()), values.max())
                picture = Image.fromarray((values * (255 / highest)).clip(0, 255).astype(np.uint8))
            return np.asarray(picture.convert("RGBA"))
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(f"it has more than {MAX_PIXELS // 10**6} million pixels") from None
    except UnidentifiedImageError:
        raise PictureError("it's no picture that can be decoded") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise PictureError(f"it can't be decoded ({error})") from None


def clean(image: np.ndarray) -> np.ndarray:
    """Makes of a picture of a character dark ink on white paper.

    Args:
        image: uint8 (H, W) grey, (H, W, 3) red, green, blue, or (H, W, 4) with opacity.

    Returns:
        uint8 (h, w), ink below 255 on 255; at most 1024 pixels on the longer side.

    Raises:
        PictureError: nothing is to be seen on it.
        ValueError: another type or shape.
    """
    import cv2

    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise ValueError(f"A picture is uint8 (H, W), (H, W, 3) or (H, W, 4), not {image.shape}.")
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4):
        raise ValueError(f"A picture has 1, 3 or 4 channels, not {image.shape[2]}.")
    longest = max(image.shape[:2])
    if longest > _WORK_SIDE:
        size = [max(1, round(s * _WORK_SIDE / longest)) for s in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    grey = _grey(image)
    grey, paper = _without_bars(grey)
    if int(grey.max()) - int(grey.min()) < _LOWEST_CONTRAST:
        # A ruled stroke, 一 or 丨, is all that's left of its picture.
        if paper is None or abs(float(grey.mean()) - paper) < _LOWEST_CONTRAST:
            raise PictureError("it shows nothing but paper")
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
        raise PictureError("it shows nothing but paper")
    return cv2.bitwise_not(ink)


def _grey(image: np.ndarray) -> np.ndarray:
    """One channel in which the ink stands out: grey, or of coloured pictures the best one."""
    import cv2

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
    best = max(
        (np.ascontiguousarray(image[..., c]) for c in range(3)), key=_contrast, default=luma
    )
    if _contrast(lightest) >= 0.7 * _contrast(luma):
        return lightest
    return best if _contrast(best) > 1.3 * _contrast(luma) else luma


def _contrast(grey: np.ndarray) -> float:
    """Grey levels between the two classes that best part a picture's pixels."""
    import cv2

    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    low = grey <= threshold
    if low.all() or not low.any():
        return 0.0
    return float(grey[~low].mean() - grey[low].mean())


def _opaque(image: np.ndarray) -> np.ndarray:
    """Lays a picture over white, or over black where what's drawn is light."""
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
            (rows, inner[:, 0]), (rows[::-1], inner[::-1, 0]),
            (columns, inner[0]), (columns[::-1], inner[0, ::-1]),
        ):  # fmt: skip
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
    """The paper's grey level where it's the same all over the picture."""
    counts = np.bincount(grey.reshape(-1), minlength=256)
    near = np.convolve(counts, np.ones(3, np.int64), "same")
    level = int(near.argmax())
    return level if near[level] >= _FLAT_SHARE * grey.size else None


def _ink_on_flat(grey: np.ndarray, paper: int) -> np.ndarray:
    """Ink on even paper, its own grey levels kept where paper is white or black."""
    darker, lighter = np.maximum(paper - grey.astype(np.int16), 0), np.maximum(
        grey.astype(np.int16) - paper, 0
    )
    ink = darker if darker.sum() >= lighter.sum() else lighter
    if ink.max() < _LOWEST_CONTRAST:
        raise PictureError("it shows nothing but paper")
    span = paper if ink is darker else 255 - paper
    if span < 200:  # coloured or grey paper: ink is made as dark as it would be on white
        span = max(_LOWEST_CONTRAST, int(np.percentile(ink[ink > ink.max() * 0.4], 90)))
    ink = np.minimum(ink * (255 / span), 255).astype(np.uint8)
    ink[ink <= WHITE - 240] = 0
    return ink


def _ink_on_uneven(grey: np.ndarray) -> np.ndarray:
    """Ink on paper whose light changes over the picture, on which there's grain."""
    import cv2

    height, width = grey.shape
    shrink = max(1.0, max(height, width) / _LIGHT_SIDE)
    small = cv2.resize(
        grey, (max(3, round(width / shrink)), max(3, round(height / shrink))),
        interpolation=cv2.INTER_AREA,
    )  # fmt: skip
    light_ink = _is_light_ink(small)
    if light_ink:
        grey, small = cv2.bitwise_not(grey), cv2.bitwise_not(small)
    # Closing lays paper over strokes; the median then takes grain and light grid lines away.
    side = 2 * (max(small.shape) // 6) + 1
    padded = cv2.copyMakeBorder(small, side, side, side, side, cv2.BORDER_REFLECT)
    closed = cv2.morphologyEx(
        padded, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    )
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
    if not strong.any() or not len(weak) or blurred[strong].mean() - weak.mean() < max(
        _LOWEST_CONTRAST, 4 * float(weak.std())
    ):
        raise PictureError("it shows nothing but paper")
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
    import cv2

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
    """Takes away what's thick and lies along the picture's edge: a table, a finger, a shadow."""
    import cv2

    height, width = ink.shape
    number, labels, stats, _ = cv2.connectedComponentsWithStats((ink > 64).astype(np.uint8))
    edge = np.zeros(number, bool)
    for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        found, counts = np.unique(line[line > 0], return_counts=True)
        edge[found[counts > 0.5 * len(line)]] = True
    if not edge.any() or edge[1:].all():
        return ink
    solid = stats[:, cv2.CC_STAT_AREA] > 0.35 * (
        stats[:, cv2.CC_STAT_WIDTH] * stats[:, cv2.CC_STAT_HEIGHT]
    )
    ink = ink.copy()
    ink[(edge & solid)[labels]] = 0
    return ink


def _without_ruling(ink: np.ndarray) -> np.ndarray:
    """Takes away straight lines that run through the whole picture: frames, grids, ruled paper.

    A character's own strokes aren't as straight, or don't run from edge to edge on two sides.
    """
    import cv2

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
            place = slice(max(0, int(start) - 1), int(end) + 1)
            candidates.append((place, slice(None)) if axis else (slice(None), place))
    # One line alone may be a stroke; and what is only lines is a character of lines (一, 十, 口).
    if len(candidates) < 2:
        return ink
    ruled = np.zeros_like(mask)
    for place in candidates:
        ruled[place] = 1
    rest = np.where(ruled, 0, ink)
    if (rest > 40).sum() < 0.08 * (ink > 40).sum():
        return ink
    # Ruling goes on where the character has ended, on all sides.
    left, top, wide, high = cv2.boundingRect((rest > 40).astype(np.uint8))
    free = min(left / width, top / height, 1 - (left + wide) / width, 1 - (top + high) / height)
    if free < 0.02:
        return ink
    # Where strokes crossed the lines they're mended from both sides.
    thickness = int(max(ruled.sum(0).max(), ruled.sum(1).max()) > 0) * max(
        3, int(0.035 * min(height, width))
    )
    mended = cv2.morphologyEx(rest, cv2.MORPH_CLOSE, np.ones((thickness, thickness), np.uint8))
    return np.where(ruled, np.minimum(mended, ink), rest).astype(np.uint8)


def _without_specks(ink: np.ndarray, least: float) -> np.ndarray:
    """Takes away what's smaller than a dot of this pen: than `least` times its width squared."""
    import cv2

    mask = ink > min(48, 0.25 * int(ink.max()))  # faint pens, too
    number, labels = cv2.connectedComponents(mask.astype(np.uint8))
    if number <= 2:
        return ink
    # By ink, so that faint grain counts for less than a dot.
    shares = np.minimum(ink.astype(np.float32) / (0.5 * int(ink.max())), 1)
    areas = np.bincount(labels.reshape(-1), shares.reshape(-1), number)[1:]
    pen = _pen_width(mask)
    small = areas < max(least * pen**2, 0.0008 * areas.sum())
    if not small.any() or small.all():
        return ink
    specks = np.concatenate([[False], small])[labels]
    ink = ink.copy()
    ink[cv2.dilate(specks.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & (
        (labels == 0) | specks
    )] = 0
    return ink


@dataclass(frozen=True)
class Layout:
    """How ink lies on a picture.

    Attributes:
        rows: lines of characters, 1 for a single character.
        characters: how many characters there seem to be.
    """

    rows: int
    characters: int


def count_characters(image: np.ndarray) -> Layout:
    """Whether a clean picture is one character, or a line, a column or a page of several.

    Parts of one character are narrow, or lie beside each other within a square; characters are
    about as wide as they're high.

    Args:
        image: uint8 (H, W), dark ink on 255, as `clean` makes it.

    Returns:
        The layout; `Layout(1, 1)` in doubt.
    """
    mask = image < 200
    if not mask.any():
        return Layout(1, 1)
    lines = _blocks(mask, axis=1)
    least = 5 * _pen_width(mask)
    own = _count_in_line(mask, least)
    if own > 1:
        return Layout(1, own)
    # Upright, two parts of one tall character (宁, 寺) look like two characters.
    own = _count_in_line(mask.T, least)
    if own > 2:
        return Layout(own, own)
    counts = [_count_in_line(mask[top:bottom], least) for top, bottom in lines]
    if len(lines) > 1 and min(counts) > 1:
        return Layout(len(lines), sum(counts))
    return Layout(1, 1)


def _pen_width(mask: np.ndarray) -> float:
    """Width of most lines in pixels."""
    import cv2

    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    return 2 * float(np.percentile(inside[inside > 0], 75))


def _count_in_line(mask: np.ndarray, least: float) -> int:
    """How many characters stand in a row of ink, by its gaps.

    Args:
        mask: the row.
        least: height in pixels under which it's a broken stroke.
    """
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
    wide = [g for g in groups if g[1] - g[0] >= 0.45 * height]
    return len(wide) if len(wide) > 1 else 1


def _blocks(mask: np.ndarray, axis: int) -> list[tuple[int, int]]:
    """Ranges of columns (axis 0) or rows (axis 1) that have ink, parted by gaps."""
    filled = mask.any(axis=axis).astype(np.int8)
    edges = np.diff(np.concatenate([[0], filled, [0]]))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def read_clean(image: Any, *, single: bool = True) -> np.ndarray:
    """Reads and cleans one picture.

    Args:
        image: a path, bytes of a picture file, a Pillow image, or an array as `clean` takes it.
        single: whether to refuse pictures of several characters.

    Returns:
        uint8 (H, W), dark ink on 255.

    Raises:
        PictureError: it can't be read, is blank, or shows several characters.
    """
    if isinstance(image, str | Path):
        path = Path(image)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise PictureError(f"it has more than {MAX_BYTES >> 20} MiB")
            image = path.read_bytes()
        except OSError as error:
            raise PictureError(error.strerror or str(error)) from None
    if isinstance(image, bytes | bytearray | memoryview):
        if len(image) > MAX_BYTES:
            raise PictureError(f"it has more than {MAX_BYTES >> 20} MiB")
        image = decode(bytes(image))
    elif hasattr(image, "convert"):  # a Pillow image
        image = np.asarray(image.convert("RGBA"))
    elif not isinstance(image, np.ndarray):
        raise TypeError(
            "A picture is a path, the bytes of a file, a Pillow image or an array, not "
            f"{type(image).__name__}."
        )
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    cleaned = clean(image)
    if single and (layout := count_characters(cleaned)).characters > 1:
        kind = "a page" if layout.rows > 1 else "a line"
        raise PictureError(
            f"it looks like {kind} of about {layout.characters} characters, and this reads "
            "single ones; cut it into pictures of one character each, or take it as one "
            "all the same (--any-layout, single=False)"
        )
    return cleaned


def find_pictures(paths: Iterable[str]) -> list[str]:
    """Files that paths, folders and patterns stand for, in their order; "-" is standard input.

    Raises:
        FileNotFoundError: a path or pattern that stands for nothing.
    """
    found: list[str] = []
    for path in paths:
        if path == "-":
            found.append(path)
        elif os.path.isdir(path):
            files = sorted(
                str(file)
                for file in Path(path).rglob("*")
                if file.suffix.lower() in SUFFIXES
                and not file.name.startswith(".")  # such as macOS's ._photo.jpg
                and file.is_file()
            )
            if not files:
                raise FileNotFoundError(f"There's no picture in {path} ({', '.join(SUFFIXES)}).")
            found += files
        elif os.path.exists(path):
            found.append(path)
        elif files := sorted(f for f in glob.glob(path, recursive=True) if os.path.isfile(f)):
            found += files
        else:
            raise FileNotFoundError(f"There's no file {path}.")
    return found


def read_input(path: str) -> str | bytes:
    """What to give `read_clean` for a path of `find_pictures`."""
    return sys.stdin.buffer.read(MAX_BYTES + 1) if path == "-" else path
