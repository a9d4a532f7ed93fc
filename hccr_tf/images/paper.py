"""The paper on a photograph: the sheet found and straightened, its light divided out."""

from collections.abc import Iterator

import cv2
import numpy as np

from hccr_tf.utils.errors import HccrError

LOWEST_CONTRAST = 12  # grey levels between paper and ink, below which there's nothing to read
_SIDE = 384  # pixels of the longer side at which sheets and light are looked at
_PEN = 1 / 10  # of the longer side: no line of a pen is wider
_SHARP = 20  # levels over eight pixels: less is a shadow's edge and not a sheet's


class ImageError(HccrError):
    """A file that can't be read as an image, or an image that shows no single character."""


def opaque(image: np.ndarray) -> np.ndarray:
    """Lays an image over white, or over black where what's drawn is light."""
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 3:
        return image
    opacity = image[..., 3:].astype(np.float32) / 255
    colour = image[..., :3]
    if opacity.min() == 1:
        return np.ascontiguousarray(colour)
    seen = opacity[..., 0] > 0.5
    ground = 0.0 if seen.any() and colour[seen].mean() > 170 else 255.0
    return np.rint(colour * opacity + ground * (1 - opacity)).astype(np.uint8)


def straighten_sheet(image: np.ndarray) -> np.ndarray | None:
    """Cuts a sheet out of the table that it lies on, its corners made right angles.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        uint8 (h, w, 3), or None where there's no table on two sides at least.
    """
    small, scale = _shrunk(image)
    for channel in _sheet_channels(small):
        mask = cv2.threshold(channel, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1]
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        sheet = max(contours, key=cv2.contourArea, default=None)
        if sheet is None or not 0.2 < cv2.contourArea(sheet) / mask.size < 0.98:
            continue
        hull = cv2.convexHull(sheet)
        corners = cv2.approxPolyN(hull, 4, ensure_convex=True).reshape(4, 2).astype(np.float32)
        area = cv2.contourArea(hull)
        is_full = cv2.contourArea(sheet) > 0.96 * area > 0.9 * cv2.contourArea(corners)
        if is_full and _is_on_table(channel.astype(np.float32), corners):
            return _straightened(image, corners / scale)
    return None


def _shrunk(image: np.ndarray) -> tuple[np.ndarray, float]:
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = max(3, round(width * scale)), max(3, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


def _sheet_channels(small: np.ndarray):
    """Yields channels in which a sheet is lighter than a table: by its light, or its colour."""
    for one in (small, cv2.bitwise_not(small)):
        bare = _closed(one, 15, cv2.BORDER_REPLICATE)
        yield cv2.cvtColor(bare, cv2.COLOR_RGB2GRAY)
        yield cv2.bitwise_not(cv2.cvtColor(bare, cv2.COLOR_RGB2HSV)[..., 1])


def _closed(image: np.ndarray, side: int, border: int) -> np.ndarray:
    """What's left when lines narrower than `side` pixels are laid over with what's beside them."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    padded = cv2.copyMakeBorder(image, side, side, side, side, border)
    return cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)[side:-side, side:-side]


def _is_on_table(channel: np.ndarray, corners: np.ndarray) -> bool:
    """Whether two sides of a sheet or more lie within the image, each of them sharp."""
    limits = np.array(channel.shape[::-1]) - 1
    num_inner = 0
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = end - start
        normal = np.array([-along[1], along[0]]) / max(1.0, float(np.hypot(*along)))
        points = start + along * np.linspace(0.1, 0.9, 32)[:, None]
        near = [points + 4 * normal, points - 4 * normal]
        seen = np.all([((p >= 1) & (p < limits)).all(axis=1) for p in near], axis=0)
        if seen.mean() < 0.5:
            continue
        steps = []
        for reach in (4, 12):
            pair = [points[seen] + reach * normal, points[seen] - reach * normal]
            x, y = np.clip(pair, 0, limits).astype(int).transpose(2, 0, 1)
            steps.append(abs(float(np.diff(np.median(channel[y, x], axis=1))[0])))
        if steps[0] < max(_SHARP, 0.8 * steps[1]):
            return False
        num_inner += 1
    return num_inner >= 2


def _straightened(image: np.ndarray, corners: np.ndarray) -> np.ndarray:
    total, difference = corners.sum(axis=1), corners[:, 0] - corners[:, 1]
    order = [total.argmin(), difference.argmax(), total.argmax(), difference.argmin()]
    corners = corners[order]
    top, right, bottom, left = np.hypot(*(corners - np.roll(corners, -1, axis=0)).T)
    width, height = int((top + bottom) / 2), int((left + right) / 2)
    square = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, square)
    sheet = cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    edge = max(2, round(0.015 * max(width, height)))  # where the table shines through
    return np.ascontiguousarray(sheet[edge:-edge, edge:-edge])


def inks_on_paper(image: np.ndarray) -> Iterator[np.ndarray]:
    """Finds ink on paper whose light changes over the image, on which there's grain.

    The light is what closing leaves, so shadows keep their edges. Ink has a colour, and how much of
    it there is in a pixel is the least of what its channels say, so that other colours pale.

    Args:
        image: uint8 (H, W, 3).

    Yields:
        uint8 (H, W), 0 where there's no ink to 255: of the ink that's dark in all channels, if
        there is much of it, then of all.

    Raises:
        ImageError: nothing stands out.
    """
    height, width = image.shape[:2]
    small, _ = _shrunk(image)
    side = 2 * int(_PEN * max(small.shape) / 2) + 1
    bare = _closed(small, side, cv2.BORDER_REFLECT)
    light = _closed(cv2.bitwise_not(small), side, cv2.BORDER_REFLECT)
    around = cv2.medianBlur(small, 127)
    darker = cv2.min(cv2.subtract(bare, small), cv2.subtract(around, small))
    lighter = cv2.subtract(small, cv2.bitwise_not(light))
    lighter = cv2.min(lighter, cv2.subtract(small, around))
    if _strength(lighter) > _strength(darker):
        image, bare = cv2.bitwise_not(image), light
    bare = cv2.GaussianBlur(cv2.medianBlur(bare, min(side, 31)), (0, 0), 1)
    bare = cv2.resize(bare, (width, height))
    # Light multiplies: so much of it the ink has swallowed.
    shares = 1 - image / np.maximum(bare, 8).astype(np.float32)
    channels = cv2.split(cv2.GaussianBlur(shares, (0, 0), max(0.5, max(height, width) / 500)))
    least, most = (cv2_of(cv2_of(*channels[:2]), channels[2]) for cv2_of in (cv2.min, cv2.max))
    middle = float(np.median(most))
    grain = 1.4826 * float(np.median(abs(most - middle))) + 0.004
    strong = most > middle + 5 * grain
    if not strong.any():
        raise ImageError("it shows nothing but paper")
    top = float(np.percentile(most[strong], 95))
    if top < max(LOWEST_CONTRAST / 255, 8 * grain):
        raise ImageError("it shows nothing but paper")
    dark = least > 0.5 * top
    coloured = strong & ~dark
    for seen in (dark, coloured):
        if seen.sum() < 0.1 * (most > 0.5 * top).sum():
            continue
        samples = np.stack([channel[seen] for channel in channels], axis=1)
        weights = samples.max(axis=1) ** 2
        colour = (samples * weights[:, None]).sum(axis=0) / weights.sum()
        ink = np.full_like(most, np.inf)
        for channel, share in zip(channels, colour, strict=True):
            if share > 0.6 * colour.max():
                ink = cv2.min(ink, channel / share)
        full = float(np.percentile(ink[strong & (ink > 0.35)], 75))
        none = max(0.3 * full, 5 * grain / float(colour.max()))
        levels = (np.clip((ink - none) / (0.9 * full - none), 0, 1) * 255).astype(np.uint8)
        # Grain and faint lines aren't ink: of what hangs together a part must be strong.
        _, labels = cv2.connectedComponents((levels > 0).astype(np.uint8))
        is_ink = np.zeros(labels.max() + 1, bool)
        is_ink[labels[levels > 160]] = True
        yield np.where(is_ink[labels], levels, np.uint8(0))


def _strength(lines: np.ndarray) -> float:
    """How much stands out from what's beside it, beyond its grain."""
    levels = cv2.cvtColor(lines, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.maximum(levels - 2.5 * np.median(levels) - 4, 0).sum())
