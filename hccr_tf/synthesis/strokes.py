"""Stroke centre lines of characters: what handwriting is drawn from.

The package embeds those of the fifteen numerals 零一二三四五六七八九十百千万亿. Others are read
from JSON, `{character: [[[x, y], ...], ...]}`: a list of points per stroke in writing order, in a
grid of 1024 with y upwards (row of the image = 900 - y), the convention of Make Me a Hanzi's
`medians`.
"""

import gzip
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.schema import decoding, parse_json

_ENTRY = {"character": str, "medians": list[Any]}  # a line of graphics.txt


def load_strokes(path: str | Path | None = None) -> dict[str, list[np.ndarray]]:
    """Reads the stroke centre lines of characters, each stroke float32 (points, 2).

    The path is a `.json` or `.json.gz` file in the module's format, or Make Me a Hanzi's
    `graphics.txt`, gzipped or not; None for the embedded numerals.

    Raises:
        FileNotFoundError: there's no such file.
        HccrError: the file isn't in that format; the message names it and the fault.
    """
    numerals = files("hccr_tf.synthesis").joinpath("numerals.json")
    file: Traversable = numerals if path is None else Path(path)
    raw = file.read_bytes()
    try:
        with decoding(file):
            raw = gzip.decompress(raw) if file.name.endswith(".gz") else raw
        if Path(file.name.removesuffix(".gz")).suffix == ".txt":
            # Make Me a Hanzi's own file: an object a line.
            lines = enumerate(raw.splitlines(), 1)
            entries = [parse_json(s, f"line {i}", _ENTRY) for i, s in lines if s.strip()]
            document = {entry["character"]: entry["medians"] for entry in entries}
        else:
            document = parse_json(raw, "it")
    except HccrError as error:
        raise _malformed(file, str(error)) from error
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


def _malformed(file: Traversable, fault: str) -> HccrError:
    return HccrError(
        f"{file} is not a file of stroke centre lines: {fault}. "
        "Expected JSON, {character: [[[x, y], ...], ...]}, or Make Me a Hanzi's graphics.txt, "
        "plain or, in a name ending in .gz, gzipped; download or write it again."
    )
