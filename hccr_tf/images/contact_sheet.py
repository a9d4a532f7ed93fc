"""Contact sheets: images side by side with their characters, to look at data before training."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write


@cache
def _font():
    return cv2.FontFace("uni")


def text_image(text: str, size: int, margin: int = 2) -> np.ndarray:
    """Draws a line of text, Chinese included, without any font file.

    Args:
        text: The text; characters that the font lacks come out as question marks.
        size: Font size in pixels, about the height of a hanzi.
        margin: White pixels on every side.

    Returns:
        Shape (height, width), uint8, black on white (255), cut to the text: as high as the font's
        line whatever the text, so that lines of equal size stand on the same base line.

    Raises:
        HccrError: The size is not positive.
    """
    if size < 1:
        raise HccrError(f"the font size must be at least 1 pixel, not {size}")
    font = _font()
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), font, size)
    ascent, descent = round(size * 0.95), round(size * 0.3)
    image = np.full((ascent + descent + 2 * margin, max(width, 1) + 2 * margin), 255, np.uint8)
    if text:
        cv2.putText(image, text, (margin, margin + ascent), (0,), font, size)
    return image


def _fit(image: np.ndarray, height: int, width: int, enlarge: bool) -> np.ndarray:
    """Scales a grey or RGB image into a box, its proportions kept, and centres it on white."""
    if image.shape[2:] == (1,):
        image = image[..., 0]
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.shape[2:] == (3,)):
        raise HccrError(
            f"an image has shape {image.shape} and type {image.dtype}; (height, width) or "
            "(height, width, 3) and uint8 are needed"
        )
    scale = min(height / image.shape[0], width / image.shape[1])
    if scale < 1 or enlarge:
        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image, size, interpolation=method)
    box = np.full((height, width, *image.shape[2:]), 255, np.uint8)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    box[top : top + image.shape[0], left : left + image.shape[1]] = image
    return box


def sheet_image(
    images: Sequence[np.ndarray | None],
    labels_text: Sequence[str],
    columns: int = 10,
    tile: int = 72,
    text_size: int = 22,
    title: str | None = None,
) -> np.ndarray:
    """Draws images in rows, each in a frame with its text under it.

    Args:
        images: Images of any size, uint8, grey (height, width) or RGB (height, width, 3); None
            leaves a place empty.
        labels_text: One text per image, made smaller where it is wider than the tile.
        columns: Tiles per row.
        tile: Side of a tile in pixels; images are scaled to it with their proportions kept.
        text_size: Font size of the texts in pixels.
        title: A line above all.

    Returns:
        The sheet, uint8, shape (height, width); (height, width, 3) where an image is RGB.

    Raises:
        HccrError: There is no image, not one text per image, or an image of another type.
    """
    if not images or len(images) != len(labels_text):
        raise HccrError(f"{len(images)} images and {len(labels_text)} texts make no sheet")
    gap, frame = 8, 205
    line = text_image("永", text_size).shape[0]
    head = text_image(title, text_size) if title else None
    top = gap + (head.shape[0] + gap if head is not None else 0)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cell_height, cell_width = tile + 2 + line + gap, tile + 2 + gap
    width = gap + columns * cell_width
    in_colour = any(image is not None and np.shape(image)[2:] == (3,) for image in images)
    sheet = np.full((top + rows * cell_height, width, 3 if in_colour else 1), 255, np.uint8)
    if head is not None:
        scaled = _fit(head, head.shape[0], width - 2 * gap, enlarge=False)
        shown = min(head.shape[1], width - 2 * gap)
        left = (scaled.shape[1] - shown) // 2
        words = scaled[:, left : left + shown, None]
        sheet[gap : gap + head.shape[0], gap : gap + shown] = words
    for i, (image, text) in enumerate(zip(images, labels_text, strict=True)):
        if image is None:
            continue
        y, x = top + i // columns * cell_height, gap + i % columns * cell_width
        sheet[y : y + tile + 2, x : x + tile + 2] = frame
        image = _fit(image, tile, tile, enlarge=True).reshape(tile, tile, -1)
        sheet[y + 1 : y + 1 + tile, x + 1 : x + 1 + tile] = image
        words = _fit(text_image(text, text_size), line, tile + 2, enlarge=False)
        sheet[y + tile + 2 : y + tile + 2 + line, x : x + tile + 2] = words[..., None]
    return sheet if in_colour else sheet[..., 0]


def draw_sheet(
    images: Sequence[np.ndarray | None],
    labels_text: Sequence[str],
    path: str | os.PathLike[str],
    **layout: Any,
) -> np.ndarray:
    """Writes `sheet_image`, whose arguments it takes, as a PNG file, and returns the sheet."""
    sheet = sheet_image(images, labels_text, **layout)
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(encode_png(sheet))
    return sheet


def encode_png(image: np.ndarray) -> bytes:
    """Returns an image, uint8, grey (height, width) or RGB (height, width, 3), as a PNG file."""
    # OpenCV's order of colours is blue, green, red.
    done, png = cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1])
    if not done:
        raise HccrError(f"a sheet of {image.shape[1]}×{image.shape[0]} pixels cannot be written")
    return png.tobytes()
