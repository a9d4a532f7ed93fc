"""Image files: found, decoded as they're meant to be seen, cleaned."""

import glob
import io
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.images.cleaning import WORK_SIDE, ImageError, clean
from hccr_tf.images.layout import count_characters

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MAX_BYTES = 128 << 20
MAX_PIXELS = 200_000_000  # a telephone's; a file of some kilobytes can claim more
_FULL_SCALES = (1, 255, 1023, 4095, 16383, 65535)


def decode(data: bytes) -> np.ndarray:
    """Decodes an image file as it's meant to be seen: turned as its EXIF data say.

    Args:
        data: a PNG, JPEG, BMP, TIFF or WebP file; of several images the first counts.

    Returns:
        uint8 (H, W, 4): red, green, blue and opacity.

    Raises:
        ImageError: it can't be decoded, or is larger than 200 million pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise ImageError("it's empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, which are checked here
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"it has more than {MAX_PIXELS // 10**6} million pixels")
            if image.format == "JPEG":  # decoded smaller, which takes a fraction of the time
                image.draft("RGB", (2 * WORK_SIDE, 2 * WORK_SIDE))
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I") or image.mode == "F":
                values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
                # Numbers of 0 to 1, or of as many bits as the brightest needs.
                highest = next((h for h in _FULL_SCALES if h >= values.max()), values.max())
                image = Image.fromarray((values * (255 / highest)).clip(0, 255).astype(np.uint8))
            return np.asarray(image.convert("RGBA"))
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"it has more than {MAX_PIXELS // 10**6} million pixels") from None
    except UnidentifiedImageError:
        raise ImageError("it's no image that can be decoded") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageError(f"it can't be decoded ({error})") from None


def read_clean(image: Any, *, single: bool = True) -> np.ndarray:
    """Reads and cleans one image.

    Args:
        image: a path, bytes of an image file, a Pillow image, or an array as `clean` takes it.
        single: whether to refuse images of several characters.

    Returns:
        uint8 (H, W), dark ink on 255.

    Raises:
        ImageError: it can't be read, is blank, or shows several characters.
    """
    if isinstance(image, str | Path):
        path = Path(image)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ImageError(f"it has more than {MAX_BYTES >> 20} MiB")
            image = path.read_bytes()
        except OSError as error:
            raise ImageError(error.strerror or str(error)) from None
    if isinstance(image, bytes | bytearray | memoryview):
        if len(image) > MAX_BYTES:
            raise ImageError(f"it has more than {MAX_BYTES >> 20} MiB")
        image = decode(bytes(image))
    elif hasattr(image, "convert"):  # a Pillow image
        image = np.asarray(image.convert("RGBA"))
    elif not isinstance(image, np.ndarray):
        raise TypeError(
            "An image is a path, the bytes of a file, a Pillow image or an array, not "
            f"{type(image).__name__}."
        )
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    cleaned = clean(image)
    if single and (layout := count_characters(cleaned)).characters > 1:
        kind = "a page" if layout.rows > 1 else "a line"
        if 1 < layout.rows == layout.characters:
            kind = "a column"
        raise ImageError(
            f"it looks like {kind} of about {layout.characters} characters, and this reads "
            "single ones; cut it into images of one character each, or take it as one "
            "all the same (--any-layout, single=False)"
        )
    return cleaned


def find_images(
    paths: Iterable[str], passed_over: Callable[[str], None] = lambda message: None
) -> list[str]:
    """Files that paths, folders and patterns stand for, in their order; "-" is standard input.

    Args:
        paths: as given.
        passed_over: called with a message for each folder that holds other files, too.

    Raises:
        FileNotFoundError: a path or pattern that stands for nothing.
    """
    found: list[str] = []
    for path in paths:
        if path == "-":
            found.append(path)
        elif os.path.isdir(path):
            # Hidden files are such as macOS's ._photo.jpg.
            files = [f for f in sorted(Path(path).rglob("*")) if not f.name.startswith(".")]
            files = [f for f in files if f.is_file()]
            images = [str(f) for f in files if f.suffix.lower() in SUFFIXES]
            if not images:
                raise FileNotFoundError(f"There's no image in {path} ({', '.join(SUFFIXES)}).")
            others = [f.suffix or f.name for f in files if f.suffix.lower() not in SUFFIXES]
            if others:
                kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(others).most_common(5))
                passed_over(f"{path}: left out {len(others)} files that aren't images ({kinds})")
            found += images
        elif os.path.exists(path):
            found.append(path)
        elif files := sorted(f for f in glob.glob(path, recursive=True) if os.path.isfile(f)):
            found += files
        else:
            raise FileNotFoundError(f"There's no file {path}.")
    return found


def read_input(path: str) -> str | bytes:
    """What to give `read_clean` for a path of `find_images`."""
    return sys.stdin.buffer.read(MAX_BYTES + 1) if path == "-" else path
