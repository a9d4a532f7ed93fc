"""Draws the README's photographs, and the image of what the recogniser reads of them.

  PYTHONPATH=tests/helpers .venv/bin/python docs/images/reading.py

Characters are of the package's own strokes; paper, light, grids and perspective are drawn. Writes
`photographs/*.jpg` beside this file, and `read.png`.
"""

from pathlib import Path

import cv2
import numpy as np
from photographs import coloured, gridded, on_paper, unevenly_lit

from hccr_tf import Recognizer
from hccr_tf.images.contact_sheet import encode_png, text_image
from hccr_tf.utils.files import atomic_write

FOLDER = Path(__file__).parent
SIDE, TILE, GAP = 480, 232, 14


def seen_from_aside(image: np.ndarray, tilt: float) -> np.ndarray:
    """uint8 (H, W, 3): the paper as a camera sees it that isn't held straight above."""
    height, width = image.shape[:2]
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    moved = corners + np.float32([[1, 0.6], [-0.2, -0.4], [-0.9, 0.5], [0.4, -0.7]]) * tilt * width
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return cv2.warpPerspective(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def ruled(grey: np.ndarray, paper, ink, colour=(120, 160, 205), step: int = 62) -> np.ndarray:
    """uint8 (H, W, 3): on lined paper."""
    image = coloured(grey, paper, ink)
    lines = np.full_like(image, 255)
    lines[step // 2 :: step] = lines[step // 2 + 1 :: step] = colour
    return np.minimum(image, lines)


def photographs() -> dict[str, np.ndarray]:
    """Images by file name, uint8 (SIDE, SIDE, 3), RGB."""

    def character(text: str, seed: int, margin: int = 60) -> np.ndarray:
        image = on_paper(text, margin, seed)
        side = max(image.shape)
        top, left = (side - image.shape[0]) // 2, (side - image.shape[1]) // 2
        square = np.full((side, side), 255, np.uint8)
        square[top : top + image.shape[0], left : left + image.shape[1]] = image
        return cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)

    grid = gridded(character("零", 3), (205, 70, 60), 3)
    return {
        "1-pencil": unevenly_lit(coloured(character("百", 2), (226, 222, 212), (70, 70, 78)), 0.5),
        "2-grid": unevenly_lit(grid, 0.72, 2),
        "3-blackboard": unevenly_lit(
            coloured(character("万", 7, 45), (38, 66, 56), (226, 228, 218)), 0.7, 3
        ),
        "4-ruled": unevenly_lit(ruled(character("五", 5), (250, 240, 205), (30, 50, 130)), 0.75, 4),
        "5-aside": unevenly_lit(
            seen_from_aside(coloured(character("亿", 3, 70), (232, 226, 220), (35, 30, 30)), 0.1),
            0.32,
            5,
        ),
    }


def main() -> None:
    """Writes the photographs, reads the files and draws what was read under each."""
    (FOLDER / "photographs").mkdir(exist_ok=True)
    files = []
    for name, image in photographs().items():
        files.append(FOLDER / "photographs" / f"{name}.jpg")
        done, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        assert done
        with atomic_write(files[-1]) as temporary:
            temporary.write_bytes(encoded.tobytes())
    large, small = text_image("永", 42).shape[0], text_image("永", 19).shape[0]
    sheet = np.full((TILE + large + small + 2 * GAP, len(files) * (TILE + GAP) - GAP, 3), 255)
    sheet = sheet.astype(np.uint8)
    for i, (file, read) in enumerate(zip(files, Recognizer().predict(files), strict=True)):
        image = cv2.imread(str(file))[..., ::-1]
        left = i * (TILE + GAP)
        sheet[:TILE, left : left + TILE] = cv2.resize(
            image, (TILE, TILE), interpolation=cv2.INTER_AREA
        )
        others = "  ".join(f"{c} {100 * p:.1f} %" for c, p in read.alternatives[:2])
        for text, size, top in (
            (f"{read.character}  {100 * read.probability:.1f} %", 42, TILE + GAP // 2),
            (f"or {others}", 19, TILE + GAP // 2 + large),
        ):
            words = text_image(text, size)[:, :TILE]
            at = left + (TILE - words.shape[1]) // 2
            sheet[top : top + words.shape[0], at : at + words.shape[1]] = words[..., None]
    with atomic_write(FOLDER / "read.png") as temporary:
        temporary.write_bytes(encode_png(sheet))


if __name__ == "__main__":
    main()
