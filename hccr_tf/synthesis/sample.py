"""Handwriting drawn from stroke centre lines: images without a download and without a font.

The package embeds the centre lines of the fifteen Chinese numerals. Any other character can be
drawn from a file in the same format: JSON, `{character: [[[x, y], ...], ...]}`, one list of
points per stroke in writing order, in a grid of 1024 with y upwards (row of the image =
900 - y), the convention of Make Me a Hanzi's `medians`.

A `Writer` is a style that persists over everything the writer writes; each image varies
around it. What real writers do and this does not: they drop strokes, change their order and use
other forms of the character. Accuracy on these images says that a pipeline works, not how well
a model reads people's handwriting.

Example::

    strokes = load_strokes()
    rng = np.random.default_rng(0)
    image = render(strokes["九"], Writer.sample(rng), rng)  # uint8 (height, width)
"""

import gzip
import importlib.resources
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hccr_tf.synthesis.geometry import ALONG, GRID, POINTS, bridges, from_grid, smoothing, swell
from hccr_tf.utils.errors import HccrError

EMBEDDED_CHARACTERS = "零一二三四五六七八九十百千万亿"

# Lines are drawn four times as large without anti-aliasing, then averaged: faster than OpenCV's
# anti-aliased lines at twice the size, and finer in width.
_OVERSAMPLE = 4
_SUBPIXEL_BITS = 4
_MARGIN = 2  # white pixels kept on each side of an uncropped image


@dataclass(frozen=True)
class Writer:
    """A writer's style, the same in all their characters.

    Attributes:
        size: Side of the character's grid as a fraction of the image's side; above 0.
        aspect: Width of the character relative to its height; 1 leaves the strokes' proportions.
        rise: Rows that a horizontal stroke climbs per column, as a tangent.
        slant: Columns that a vertical stroke leans to the right per row, as a tangent.
        cursive: 0 (each stroke apart and angular) to 1 (strokes rounded, run on and joined).
        width: Width of the pen as a fraction of the side of the character's grid.
        pressure: 0 (a constant line) upwards: relative change of width and grey along a stroke.
        ink: Grey level of the image's darkest pixel, 0 (black) to 200.
        grain: 0 (even ink) to 1: the share of the ink that may be missing where it runs thin.
        blur: Sigma of the scanner's blur as a fraction of the pen's width; 0 for sharp edges.
        habit: Seed, at least 0, of the smooth deformation that all the writer's characters share.
    """

    size: float = 0.85
    aspect: float = 1.0
    rise: float = 0.0
    slant: float = 0.0
    cursive: float = 0.3
    width: float = 0.045
    pressure: float = 0.3
    ink: float = 5.0
    grain: float = 0.5
    blur: float = 0.15
    habit: int = 0

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Writer":
        """Draws a writer.

        The ranges follow scans of pens on paper (CASIA-HWDB): uneven ink with soft edges, lines
        of about a twentieth of the character, characters narrower than high.

        Args:
            rng: The source of randomness; equal states give equal writers.

        Returns:
            The writer.
        """
        return cls(
            size=float(np.exp(np.clip(rng.normal(-0.16, 0.16), -0.6, 0.15))),
            aspect=float(np.exp(np.clip(rng.normal(-0.16, 0.13), -0.5, 0.2))),
            rise=float(rng.normal(0.04, 0.06)),
            slant=float(rng.normal(0.03, 0.09)),
            cursive=float(rng.random() ** 1.5),
            width=float(0.05 * np.exp(np.clip(rng.normal(0, 0.25), -0.6, 0.5))),
            pressure=float(rng.uniform(0.15, 0.5)),
            ink=float(40 * rng.random() ** 3),
            grain=float(rng.uniform(0.2, 0.7)),
            blur=float(rng.uniform(0.08, 0.22)),
            habit=int(rng.integers(2**31)),
        )


def load_strokes(path: str | Path | None = None) -> dict[str, list[np.ndarray]]:
    """Reads the stroke centre lines of characters.

    Args:
        path: A `.json` or `.json.gz` file (see the module's docstring for the format), or
            Make Me a Hanzi's `graphics.txt`, gzipped or not; None for the embedded fifteen
            numerals.

    Returns:
        `{character: strokes}`; a stroke is a float32 array of shape (points, 2), x and y in
        the grid of 1024, y upwards.

    Raises:
        FileNotFoundError: If there is no such file.
        HccrError: If the file is not in that format; the message names the file and the fault.
    """
    if path is None:
        file = importlib.resources.files("hccr_tf.synthesis").joinpath("numerals.json")
    else:
        file = Path(path)
    raw = file.read_bytes()
    try:
        raw = gzip.decompress(raw) if file.name.endswith(".gz") else raw
        if Path(file.name.removesuffix(".gz")).suffix == ".txt":
            # Make Me a Hanzi's own file: an object a line.
            entries = [json.loads(line) for line in raw.splitlines() if line.strip()]
            document = {entry["character"]: entry["medians"] for entry in entries}
        else:
            document = json.loads(raw)
    except (KeyError, TypeError) as error:
        raise _malformed(file, "a line has no character and medians") from error
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise _malformed(file, f"it cannot be read as JSON ({error})") from error
    if not isinstance(document, dict) or not document:
        raise _malformed(file, "it holds no object of characters")
    strokes = {}
    for character, lines in document.items():
        if not isinstance(lines, list) or not lines:
            raise _malformed(file, f"{character!r} has no list of strokes")
        try:
            strokes[character] = [np.asarray(line, np.float32) for line in lines]
        except (TypeError, ValueError, OverflowError) as error:
            raise _malformed(file, f"{character!r} has points that are not [x, y]") from error
        for line in strokes[character]:
            if line.ndim != 2 or line.shape[1] != 2 or not np.isfinite(line).all():
                raise _malformed(file, f"{character!r} has points that are not finite [x, y]")
    return strokes


def _malformed(file, fault: str) -> ValueError:
    return ValueError(
        f"{file} is not a file of stroke centre lines: {fault}. "
        "Expected JSON, {character: [[[x, y], ...], ...]}, or Make Me a Hanzi's graphics.txt, "
        "plain or, in a name ending in .gz, gzipped; download or write it again."
    )


def render(
    strokes: Sequence[np.ndarray],
    writer: Writer,
    rng: np.random.Generator,
    size: int = 64,
    crop: bool = True,
) -> np.ndarray:
    """Draws one character as one writer might write it.

    Equal arguments and an equal state of `rng` give equal bytes.

    Args:
        strokes: The character's centre lines in writing order, each of shape (points, 2), x and
            y in the grid of 1024, y upwards. A stroke of one point is a dot.
        writer: The style.
        rng: The source of the image's own variation.
        size: Side of the whole image in pixels, of which the character fills `writer.size`.
        crop: Whether to cut the image to the ink, as `.gnt` files have it; sizes and
            aspects then differ from image to image. Otherwise the image is
            (size, size) and keeps two white pixels on each side.

    Returns:
        uint8 of shape (height, width), background 255, ink below.

    Raises:
        HccrError: If there is no stroke, a stroke is not of shape (points >= 1, 2), lies far
            outside the grid or is not finite, or `size` is below 8.
    """
    if size < 8:
        raise HccrError(f"size is {size} pixels; a character needs at least 8.")
    lines, pressure = _write(_checked(strokes), writer, rng)
    vary = rng.standard_normal(4)
    side = size * writer.size * np.exp(0.06 * vary[0])
    pen = writer.width * side * np.exp(0.08 * vary[1])
    points = np.stack([lines.real, lines.imag], -1) * side
    reach = pen * (0.8 + 2 * writer.blur)  # how far from its centre a line leaves ink
    low, high = points.min((0, 1)) - reach, points.max((0, 1)) + reach
    if crop:
        width, height = np.ceil(high - low).astype(int) + 1
        points += rng.random(2) - low  # the scanner's raster starts anywhere in a pixel
    else:
        width = height = size
        shrink = min(1.0, (size - 2 * _MARGIN - 1) / (high - low).max())
        points, pen, low, high = points * shrink, pen * shrink, low * shrink, high * shrink
        place = size / 2 + size * 0.04 * rng.standard_normal(2)
        points += np.clip(place, _MARGIN - low, size - _MARGIN - high)
    ink = _draw(points, pressure, pen, height, width)
    ink = _scan(ink, pen, writer, rng)
    darkest = 255 - np.clip(writer.ink + 6 * vary[2], 0, 200)
    image = (255 - ink * (darkest / ink.max())).astype(np.uint8)
    if crop:
        rows, columns = np.flatnonzero(image.min(1) < 255), np.flatnonzero(image.min(0) < 255)
        image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(image)


def _checked(strokes: Sequence[np.ndarray]) -> list[np.ndarray]:
    strokes = [np.asarray(stroke, np.float64) for stroke in strokes]
    if not strokes:
        raise HccrError("There is no stroke to draw.")
    for index, stroke in enumerate(strokes):
        if stroke.ndim != 2 or stroke.shape[1] != 2 or not len(stroke):
            raise HccrError(f"Stroke {index} has shape {stroke.shape}, expected (points, 2).")
        if not (np.abs(stroke) <= 8 * GRID).all():
            raise HccrError(f"Stroke {index} leaves the grid of {GRID}, or is not finite.")
    return strokes


def _write(
    strokes: list[np.ndarray], writer: Writer, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The pen's path and pressure: complex (lines, POINTS) in sides of the character about its
    centre, rows downwards, and float of the same shape, 1 for the writer's normal pressure."""
    points = from_grid(np.concatenate(strokes))
    cursive = float(np.clip(writer.cursive + 0.12 * rng.standard_normal(), 0, 1))
    lines = _resample(points, strokes, cursive, rng)
    count = len(lines)

    by_stroke = rng.standard_normal((6, count, 1))
    centre = lines.mean(1, keepdims=True)
    turn = np.exp(1j * (0.06 + 0.05 * cursive) * by_stroke[0])
    scale = 1 + (0.08 + 0.06 * cursive) * by_stroke[1]
    shift = (0.014 + 0.016 * cursive) * (by_stroke[2] + 1j * by_stroke[3])
    lines = centre + shift + (lines - centre) * (turn * scale)
    bend = 0.013 + 0.015 * cursive
    lines = lines + _warp(lines, bend, np.random.default_rng(writer.habit))
    lines = lines + _warp(lines, bend, rng)
    lines = lines @ smoothing(rng.uniform(0.2, 1) * (1.3 + 4 * cursive)).T
    lines[:, -1] += rng.uniform(-0.3, 0.8, count) * (lines[:, -1] - lines[:, -2])

    change = swell(by_stroke[4], by_stroke[5], rng.uniform(0, 1.2, (count, 1)))
    pressure = np.clip(1 + writer.pressure * change, 0.4, 1.6)

    # Where the pen is not fully lifted, a thin bowed line leads to the next stroke.
    start, stop = lines[:-1, -1:], lines[1:, :1]
    bow = 0.15j * rng.standard_normal((count - 1, 1))
    joined = rng.random(count - 1) < cursive * (0.6 - 1.5 * abs(stop - start)[:, 0])
    light = rng.uniform(0.3, 0.7, (count - 1, 1)) * np.ones(POINTS)
    lines = np.concatenate([lines, bridges(start, stop, bow)[joined]])
    pressure = np.concatenate([pressure, light[joined]])

    vary = rng.standard_normal(4)
    lines = lines * np.exp(0.04j * vary[0])
    x = lines.real * np.sqrt(writer.aspect) * np.exp(0.05 * vary[1])
    y = lines.imag / np.sqrt(writer.aspect)
    rise, slant = writer.rise + 0.02 * vary[2], writer.slant + 0.03 * vary[3]
    return (x - slant * y) + 1j * (y - rise * x), pressure


def _resample(points, strokes, cursive: float, rng: np.random.Generator) -> np.ndarray:
    """POINTS equally spaced points of each stroke; a fast writer runs near strokes together."""
    first = np.cumsum([0] + [len(stroke) for stroke in strokes[:-1]])
    step = abs(np.diff(points))
    gap = step[first[1:] - 1]
    runs_on = (gap < 0.3) & (rng.random(len(gap)) < 0.3 * cursive**2)
    first = np.concatenate([first[:1], first[1:][~runs_on]])
    # All strokes lie on one axis of length, so that one interpolation serves them all; a step of
    # one side between strokes keeps the end of one and the start of the next apart.
    step[first[1:] - 1] = 1.0
    at = np.concatenate([[0.0], np.cumsum(step)])
    begin, end = at[first], at[np.append(first[1:], len(points)) - 1]
    wanted = begin[:, None] + ALONG * (end - begin)[:, None]
    return np.interp(wanted, at, points)


def _warp(lines: np.ndarray, bend: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random displacement at each point, `bend` sides in each axis (one sigma)."""
    waves = 4
    draw = rng.standard_normal((2, waves))
    phase, direction = rng.uniform(0, 2 * np.pi, (2, waves))
    vector = 2 * np.pi / rng.uniform(0.7, 1.6, waves) * np.exp(1j * direction)  # 1 / sides
    amplitude = bend * np.sqrt(2 / waves) * (draw[0] + 1j * draw[1])
    angle = lines.real[..., None] * vector.real + lines.imag[..., None] * vector.imag
    return np.sin(angle + phase) @ amplitude


def _draw(points, pressure, pen: float, height: int, width: int) -> np.ndarray:
    """The ink, float32 (height, width) in 0-255, of lines (lines, POINTS, 2) in pixels."""
    import cv2  # here, so that reading strokes needs no OpenCV

    scale = _OVERSAMPLE * 2**_SUBPIXEL_BITS
    # The half pixel: OpenCV's coordinates are those of pixels' centres.
    fixed = np.rint(points * scale - 2 ** (_SUBPIXEL_BITS - 1)).astype(np.int32)
    segments = np.stack([fixed[:, :-1], fixed[:, 1:]], 2).reshape(-1, 2, 2)
    pressure = (pressure[:, :-1] + pressure[:, 1:]).ravel() / 2
    thickness = np.maximum(np.rint(pen * _OVERSAMPLE * pressure).astype(int), 2)
    canvas = np.zeros((height * _OVERSAMPLE, width * _OVERSAMPLE), np.uint8)
    # Thin (light) lines first: where lines cross, the darker one stays.
    for thick in np.unique(thickness):
        shade = np.clip(0.4 + 0.6 * thick / max(pen * _OVERSAMPLE, 2), 0, 1)
        same, shade = segments[thickness == thick], int(255 * shade)
        cv2.polylines(canvas, same, False, shade, int(thick), cv2.LINE_8, _SUBPIXEL_BITS)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)


def _scan(ink: np.ndarray, pen: float, writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """The ink, float32 (height, width), with the paper's grain and the scanner's blur."""
    import cv2

    height, width = ink.shape
    # Ink runs thick and thin over about a third of the pen's width, not from pixel to pixel.
    cells = np.maximum(np.array([height, width]) / max(pen / 3, 1), 1).astype(int)
    grain = cv2.resize(rng.random(cells, np.float32), (width, height))
    ink = ink * (1 - writer.grain * grain)
    if writer.blur > 0:
        ink = cv2.GaussianBlur(ink, (0, 0), writer.blur * pen, borderType=cv2.BORDER_CONSTANT)
    # CASIA's images were cleaned: what was nearly as light as the paper is 255.
    return np.maximum(ink - 0.08 * ink.max(), 0)


def generate_gnt(
    out_dir: str | Path,
    strokes: Mapping[str, Sequence[np.ndarray]] | None = None,
    characters: Iterable[str] | None = None,
    *,
    num_writers: int = 40,
    num_test_writers: int = 10,
    samples_per_writer: int = 4,
    seed: int = 0,
    size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes a synthetic data set as CASIA `.gnt` files, one writer a file.

    The training writers' files go to `out_dir/SampleTrain`, those of further, other writers to
    `out_dir/SampleTest`, numbered on: `9001-s.gnt`, `9002-s.gnt` and so on. A file depends
    only on `seed`, its number and the characters, not on how many writers there are.

    Args:
        out_dir: The folder; made if missing. Files of the same names are replaced.
        strokes: Centre lines as `load_strokes` returns them; None for the embedded ones.
        characters: The characters to write; None for all in `strokes`.
        num_writers: Writers in `SampleTrain`.
        num_test_writers: Writers in `SampleTest`.
        samples_per_writer: Images that each writer makes of each character.
        seed: Seed, at least 0.
        size: Side in pixels of the images before they are cropped to the ink.
        progress: Called as `progress(files written, files in all)` after each file.

    Returns:
        The files' paths, `SampleTrain` first.

    Raises:
        FileExistsError: If one of the two folders holds other `.gnt` files, which would mix two
            data sets and could put one writer on both sides.
        HccrError: If a character has no strokes, or a number is out of range.
    """
    from hccr_tf.data.sources.gnt import write_gnt

    strokes = load_strokes() if strokes is None else strokes
    characters = list(strokes if characters is None else characters)
    missing = [character for character in characters if character not in strokes]
    if missing:
        raise HccrError(
            f"No strokes for {', '.join(missing[:10])} ({len(missing)} of {len(characters)} "
            f"characters); there are strokes of {len(strokes)}. Pass a file that holds them "
            "through load_strokes(path), or other characters."
        )
    if num_writers < 1 or num_test_writers < 0 or samples_per_writer < 1 or not characters:
        raise HccrError(
            f"Nothing to write: {num_writers} writers, {num_test_writers} test writers, "
            f"{samples_per_writer} samples, {len(characters)} characters."
        )
    paths = [
        Path(out_dir) / ("SampleTrain" if index < num_writers else "SampleTest") / f"{name}-s.gnt"
        for index, name in enumerate(range(9001, 9001 + num_writers + num_test_writers))
    ]
    others = sorted(set(Path(out_dir).glob("Sample*/*.gnt")) - set(paths))
    if others:
        raise FileExistsError(
            f"{out_dir} holds {len(others)} other .gnt files, such as {others[0]}. "
            "Delete them or choose another folder."
        )
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, index])
        writer = Writer.sample(rng)
        samples = (
            (character, render(strokes[character], writer, rng, size))
            for _ in range(samples_per_writer)
            for character in characters
        )
        write_gnt(path, samples)
        if progress is not None:
            progress(index + 1, len(paths))
    return paths
