"""Images described by their strokes' directions, whatever their size, margin and polarity."""

from collections.abc import Iterable
from functools import cache

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.feature import hog

from hccr_tf.data.loading.preprocessing import crop_to_ink
from hccr_tf.images.contact_sheet import text_image

_SIDE, _CELLS, _ORIENTATIONS = 48, 6, 8
NUM_FEATURES = _ORIENTATIONS * _CELLS**2


def image_features(images: Iterable[np.ndarray]) -> np.ndarray:
    """Describes images by histograms of their strokes' directions, cell by cell.

    An image, (height, width) uint8, is cut to its ink and scaled to a square, so that margins and
    sizes, in which sources differ, don't count; a dark background is inverted.

    Returns:
        Shape (n, 288), float32: 8 directions in each of 6 × 6 cells.
    """
    shape = (2 * _CELLS, 2 * _CELLS, 4 * _ORIENTATIONS)
    pixels, features = (_SIDE // shape[0], _SIDE // shape[1]), []
    for image in images:
        fine = hog(_square(image), shape[2], pixels, shape[:2], "L1").reshape(shape)
        # Cells and directions overlap, so that a stroke near a border counts on both its sides.
        smooth = gaussian_filter(fine, (1.0, 1.0, 2.0), mode=("nearest", "nearest", "wrap"))
        features.append(smooth[::2, ::2, ::4].ravel())
    # The root brings cells with much and with little ink closer together.
    return np.sqrt(np.stack(features), dtype=np.float32)


def _square(image: np.ndarray) -> np.ndarray:
    """Returns the ink alone, 0 to 1 (the darkest), shape (_SIDE, _SIDE), float32."""
    if is_inverted(image):
        image = 255 - image
    image = crop_to_ink(image)
    ink = 255 - cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    ink /= max(float(ink.max()), 1.0)
    return cv2.GaussianBlur(ink, (0, 0), 1.0)


@cache
def glyph_features(character: str) -> np.ndarray | None:
    """The features of a character as a font draws it; None where the font does not have it."""
    drawn, missing = text_image(character, 96), text_image("\U0010fffd", 96)
    if character != "?" and np.array_equal(drawn, missing):
        return None
    return image_features([drawn])[0]


def is_inverted(image: np.ndarray) -> bool:
    """Whether an image, shape (height, width), uint8, is light ink on a dark background.

    More than half of its outermost pixels, and of all, are darker than the middle of its own
    range. The outermost alone would not do: the strokes of 口, cut tight, lie there.
    """
    dark = image < (int(image.min()) + int(image.max())) / 2
    frame = np.concatenate([dark[0], dark[-1], dark[1:-1, 0], dark[1:-1, -1]])
    return bool(2 * dark.sum() > dark.size and 2 * frame.sum() > frame.size)
