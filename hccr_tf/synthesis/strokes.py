"""Stroke centre lines of characters: what handwriting is drawn from.

The package embeds those of the fifteen numerals 零一二三四五六七八九十百千万亿. Others are read
from JSON, `{character: [[[x, y], ...], ...]}`: a list of points per stroke in writing order, in a
grid of 1024 with y upwards (row of the image = 900 - y), the convention of Make Me a Hanzi's
`medians`.
"""

import gzip
import json
import zlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from hccr_tf.utils.errors import HccrError


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


def _malformed(file: Traversable, fault: str) -> HccrError:
    return HccrError(
        f"{file} is not a file of stroke centre lines: {fault}. "
        "Expected JSON, {character: [[[x, y], ...], ...]}, or Make Me a Hanzi's graphics.txt, "
        "plain or, in a name ending in .gz, gzipped; download or write it again."
    )
