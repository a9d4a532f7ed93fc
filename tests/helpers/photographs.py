"""Photographs of a character with known truth: what people hold before a camera or a scanner."""

import io

import cv2
import numpy as np
from PIL import Image

from hccr_tf.synthesis.deform import centre_lines, draw
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.synthesis.style import HandwritingStyle

STEADY = HandwritingStyle(
    grain=0.0,
    blur=0.05,
    soften=0.0,
    noise=0.0,
    tone=0.0,
    ink=1.0,
    fade=1.0,
    pen_low=0.045,
    pen_high=0.06,
    side_low=140,
    side_high=140,
)


def written(character: str, seed: int = 1, variation: HandwritingStyle = STEADY) -> np.ndarray:
    """uint8 (H, W): a numeral, dark on white, cropped to the ink."""
    lines = centre_lines(load_strokes()[character])
    return draw(lines, np.array([len(lines)]), [(seed, ord(character))], variation)[0]


def on_paper(character: str, margin: int = 60, seed: int = 1) -> np.ndarray:
    """uint8 (H, W): with white paper around it."""
    return cv2.copyMakeBorder(
        written(character, seed), margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=255
    )


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    """An image as a file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def coloured(grey, paper=(255, 255, 255), ink=(0, 0, 0)) -> np.ndarray:
    """uint8 (H, W, 3): grey as a mixture of two colours."""
    share = (grey.astype(np.float32) / 255)[..., None]
    return np.rint(np.array(paper) * share + np.array(ink) * (1 - share)).astype(np.uint8)


def unevenly_lit(image, lowest=0.4, seed=1) -> np.ndarray:
    """The same in a light that falls off to one corner, with the grain of a sensor."""
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    light = 1 - (1 - lowest) * (0.6 * x / width + 0.4 * (y / height) ** 2)
    light = light.reshape(light.shape + (1,) * (image.ndim - 2))
    grain = np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.clip(image * light + grain, 0, 255).astype(np.uint8)


def gridded(grey, colour=(200, 60, 60), thickness=2) -> np.ndarray:
    """uint8 (H, W, 3): in a frame with a cross, as practice paper has it."""
    image = coloured(grey)
    height, width = grey.shape
    lines = image.copy()
    inset = 6
    cv2.rectangle(lines, (inset, inset), (width - inset, height - inset), colour, thickness)
    cv2.line(lines, (width // 2, inset), (width // 2, height - inset), colour, thickness)
    cv2.line(lines, (inset, height // 2), (width - inset, height // 2), colour, thickness)
    return np.minimum(lines, image)


def sheet(grey, side=640, place=(0.4, 0.5), size=0.4) -> np.ndarray:
    """uint8 (side, side, 3): the ink somewhere on a large sheet."""
    large = np.full((side, side), 255, np.uint8)
    scale = size * side / max(grey.shape)
    ink = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = (round(p * (side - s)) for p, s in zip(place, ink.shape, strict=True))
    large[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return coloured(large, (240, 235, 225), (45, 45, 50))


def ruled(image, colour=(120, 150, 210), gap=45, down=False, thickness=2) -> np.ndarray:
    """The same on ruled paper, or squared with `down`."""
    lines = np.full_like(image, 255)
    for place in range(gap, max(image.shape), gap):
        cv2.line(lines, (0, place), (image.shape[1], place), colour, thickness)
        if down:
            cv2.line(lines, (place, 0), (place, image.shape[0]), colour, thickness)
    return np.minimum(image, lines)


def on_table(image, colour=(95, 70, 50), seed=1) -> np.ndarray:
    """The same as a sheet that lies askew on a table."""
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    inset = (1 - 2 * square) * rng.uniform(0.03, 0.12, (4, 2)).astype(np.float32)
    size = np.array([width, height], np.float32)
    matrix = cv2.getPerspectiveTransform(square * size, (square + inset) * size)
    return cv2.warpPerspective(image, matrix, (width, height), borderValue=colour)


def shadowed(image, softness=0.02, darkness=0.5, place=0.45) -> np.ndarray:
    """The same with a shadow over one side, whose edge is so soft, in widths of the image."""
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / width
    share = (1 + np.tanh((x + 0.2 * y - place) / (2 * softness))) / 2
    light = darkness + (1 - darkness) * share
    return np.rint(image * light[..., None]).astype(np.uint8)


def boxed(image, kind="circle", colour=(50, 50, 50), thickness=2) -> np.ndarray:
    """The same in a circle, a square or a rounded box around the ink."""
    grey = image.min(axis=2)
    left, top, width, height = cv2.boundingRect((grey < 200).astype(np.uint8))
    centre, reach = (left + width // 2, top + height // 2), round(0.75 * max(width, height))
    lines = np.full_like(image, 255)
    if kind == "circle":
        cv2.circle(lines, centre, reach, colour, thickness, cv2.LINE_AA)
    else:
        start, end = ((centre[0] + s * reach, centre[1] + s * reach) for s in (-1, 1))
        cv2.rectangle(lines, start, end, colour, thickness)
    if kind == "rounded":
        bend = reach // 3
        for x in (-1, 1):
            for y in (-1, 1):
                corner = centre[0] + x * (reach - bend), centre[1] + y * (reach - bend)
                ends = centre[0] + x * (reach + 5), centre[1] + y * (reach + 5)
                cv2.rectangle(lines, corner, ends, (255, 255, 255), -1)
                turn = {(1, 1): 0, (-1, 1): 90, (-1, -1): 180, (1, -1): 270}[x, y]
                cv2.ellipse(lines, corner, (bend, bend), turn, 0, 90, colour, thickness)
    return np.minimum(image, lines)


def barred(grey, side=40) -> np.ndarray:
    """uint8 (H, W): with black bars left and right of the paper."""
    return cv2.copyMakeBorder(grey, 0, 0, side, side, cv2.BORDER_CONSTANT, value=0)


def ink_of(image: np.ndarray, side: int = 64) -> np.ndarray:
    """Ink, cropped to it and stretched: bool (side, side)."""
    mask = (image < 160).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    cut = mask[top : top + height, left : left + width] * 255
    return cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA) > 127


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two images' ink, each cropped to it."""
    a, b = ink_of(first), ink_of(second)
    return (a & b).sum() / (a | b).sum()
