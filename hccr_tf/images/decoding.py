"""Image files: found, decoded as they're meant to be seen, cleaned."""

import contextlib
import glob
import io
import os
import re
import struct
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hccr_tf.images.cleaning import WORK_SIDE, ImageError, candidates
from hccr_tf.images.layout import LayoutGuess, count_characters, several_characters

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
    *(".avif", ".heic", ".heif"),
)
# No other of Pillow's decoders is reached, whatever a file is named: one starts Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "AVIF")
_HEIC = rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)"
_REMEDIES = {
    _HEIC: "HEIC file; `pip install hccr_tf[heif]` reads it, or save it as JPEG or PNG",
    rb"%PDF": "PDF file; save its page as PNG, as `pdftoppm -png` does",
    rb"(\xef\xbb\xbf)?\s*<(\?xml|svg)": "SVG or XML file; save the drawing as PNG",
    rb"%!PS": "PostScript file; save its page as PNG",
    rb"8BPS": "Photoshop file; save it as PNG",
    rb"P[1-6]\s": "PNM file; save it as PNG",
    rb"(\0\0\0\x0cjP  |\xff\x4f\xff\x51)": "JPEG 2000 file; save it as JPEG or PNG",
    rb"(\xff\x0a|\0\0\0\x0cJXL )": "JPEG XL file; save it as JPEG or PNG",
    rb"AT&T": "DjVu file; save its page as PNG",
    rb"PK\x03\x04": "ZIP archive; unpack it, or give it to `hccr data prepare`",
}
"""How known files that aren't decoded begin, and what to do."""
_MOST_FRAMES = 64  # of an animation that are looked at
MAX_BYTES = 128 << 20
MAX_PIXELS = 200_000_000  # a telephone's; a file of some kilobytes can claim more
_LIGHT = 170  # grey level above which all that's drawn on transparency is light ink
_MAX_PIXELS_IN_SETS = 1 << 24
# Pillow's own limit, at which it warns, is below what telephones make, and is of the process.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
_FULL_SCALES = (1, 255, 1023, 4095, 16383, 65535)


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image file as it's meant to be seen: turned as its EXIF data say.

    Args:
        data: A PNG, JPEG, BMP, TIFF, WebP, GIF or AVIF file, or HEIC where pillow-heif is
            installed; of several images the one counts on which most is drawn.
        max_pixels: How many pixels it may have.

    Returns:
        uint8 (H, W, 4): red, green, blue and opacity.

    Raises:
        ImageError: It can't be decoded, or is larger than `max_pixels`; the message is a fixed
            phrase, fit to be counted.
    """
    return np.asarray(_load(data, max_pixels, strict=False).convert("RGBA"))


def decode_grey(data: bytes) -> np.ndarray:
    """Decodes an image of a data set: as `decode`, but only whole files, and to grey.

    Transparent pixels are laid over white, ink that's light on them inverted, colours become luma
    (0.299 R + 0.587 G + 0.114 B).

    Returns:
        uint8 (H, W), at the file's own size.

    Raises:
        ImageError: As `decode`, also where checksums fail or the end is missing, and for more than
            16 million pixels.
    """
    image = _load(data, _MAX_PIXELS_IN_SETS, strict=True)
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    pixels = np.asarray(image.convert("RGBA"))
    colours, opacity = pixels[..., :3], pixels[..., 3:]
    if opacity.min() < 255:
        share = opacity.astype(np.float32) / 255
        seen = colours[opacity[..., 0] > 127]
        if len(seen) and np.percentile(seen, 1) > _LIGHT:
            colours = 255 - colours
        colours = np.rint(colours * share + 255 * (1 - share)).astype(np.uint8)
    return cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2GRAY)


def _load(data: bytes, max_pixels: int, strict: bool) -> Image.Image:
    """An image file's first image, 8 bits deep and turned upright."""
    if not data:
        raise ImageError("empty file")
    too_large = ImageError(f"image of more than {max_pixels // 10**6} million pixels")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, which are checked here
            image = _open(data, max_pixels)
            if image.width * image.height > max_pixels:
                raise too_large
            if strict:
                _check_whole(data, image.format)
            elif image.format == "JPEG":  # decoded smaller, which takes a fraction of the time
                image.draft("RGB", (2 * WORK_SIDE, 2 * WORK_SIDE))
            if image.format in ("GIF", "WEBP", "PNG", "TIFF"):
                _seek_fullest(image, max_pixels)
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I") or image.mode == "F":
                values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
                # Numbers of 0 to 1, or of as many bits as the brightest needs.
                highest = next((h for h in _FULL_SCALES if h >= values.max()), values.max())
                image = Image.fromarray((values * (255 / highest)).clip(0, 255).astype(np.uint8))
            return image
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise too_large from None
    except UnidentifiedImageError:
        known = (r for start, r in _REMEDIES.items() if re.match(start, data[:64], re.DOTALL))
        raise ImageError(next(known, "no image that can be decoded")) from None
    except MemoryError as error:  # of a machine too small, or of damage
        raise ImageError("image that takes more memory than there is") from error
    except Exception as error:  # decoders raise nearly anything at damaged bytes
        raise ImageError("image that is damaged or cut off") from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if re.match(_HEIC, data[:64], re.DOTALL):
        with contextlib.suppress(ImportError):
            import pillow_heif

            heif = pillow_heif.open_heif(data)
            if heif.size[0] * heif.size[1] > max_pixels:
                raise Image.DecompressionBombError
            return heif.to_pillow()
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _seek_fullest(image: Image.Image, max_pixels: int) -> None:
    """Goes to the frame or page on which most is drawn: animations begin with blank paper."""
    num_frames = min(
        getattr(image, "n_frames", 1), _MOST_FRAMES, max_pixels // (image.width * image.height)
    )
    amounts = []
    for frame in range(num_frames if num_frames > 1 else 0):
        image.seek(frame)
        grey = np.asarray(image.convert("RGBA").convert("L"), np.float32)
        amounts.append(float(abs(grey - np.median(grey)).mean()))
    if amounts:
        image.seek(int(np.argmax(amounts)))


def _check_whole(data: bytes, kind: str | None) -> None:
    """Raises EOFError or struct.error where the end is missing or a PNG's checksums fail."""
    whole = True
    if kind == "PNG":
        position, name = 8, b""
        while whole and name != b"IEND":  # Pillow's own check takes five times as long.
            length, name = struct.unpack_from(">I4s", data, position)
            (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
            whole = zlib.crc32(data[position + 4 : position + 8 + length]) == checksum
            position += 12 + length
    elif kind == "JPEG":
        # The end marker must follow the last scan; an embedded preview has an end marker too.
        whole = data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    elif kind == "BMP":
        whole = len(data) >= int.from_bytes(data[2:6], "little")
    if not whole:
        raise EOFError


def read_clean(image: Any, *, single: bool = True, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads and cleans one image: the first of `read_candidates`, which has the arguments."""
    return next(read_candidates(image, single=single, max_pixels=max_pixels))


def read_candidates(
    image: Any, *, single: bool = True, max_pixels: int = MAX_PIXELS
) -> Iterator[np.ndarray]:
    """Reads one image and yields what `candidates` makes of it, the likeliest first.

    Args:
        image: a path, bytes of an image file, a Pillow image, or an array as `clean` takes it.
        single: whether to refuse images of several characters.
        max_pixels: how many pixels an image file may have.

    Yields:
        uint8 (H, W), dark ink on 255.

    Raises:
        ImageError: it can't be read, is blank, or shows several characters.
    """
    if isinstance(image, str | Path):
        try:
            with open(image, "rb") as stream:
                image = stream.read(MAX_BYTES + 1)
        except IsADirectoryError:
            raise ImageError(f"there's no image in it ({', '.join(SUFFIXES)})") from None
        except OSError as error:
            raise ImageError(error.strerror or str(error)) from None
    if isinstance(image, bytes | bytearray | memoryview):
        if len(image) > MAX_BYTES:
            raise ImageError(f"it has more than {MAX_BYTES >> 20} MiB")
        image = decode(bytes(image), max_pixels)
    elif hasattr(image, "convert"):  # a Pillow image
        image = np.asarray(image.convert("RGBA"))
    elif not isinstance(image, np.ndarray):
        raise TypeError(
            "An image is a path, the bytes of a file, a Pillow image or an array, not "
            f"{type(image).__name__}."
        )
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    refused, least = None, 0.0
    for cleaned in candidates(image):
        layout = count_characters(cleaned) if single else LayoutGuess(1, 1)
        if layout.characters == 1 and (255 - cleaned.mean(dtype=float)) >= least:
            yield cleaned
        elif refused is None and layout.characters > 1:
            refused = layout
            # A neighbour's edge may go, and a second character may not.
            least = 0.8 * (255 - cleaned.mean(dtype=float))
    if refused is not None:
        raise ImageError(several_characters(refused))


def find_images(
    paths: Iterable[str], passed_over: Callable[[str], None] = lambda message: None
) -> list[str]:
    """Lists the files that paths, folders and patterns stand for; "-" is standard input.

    What stands for nothing is listed as it is: `read_clean` says why, and others are still read.

    Args:
        paths: as given.
        passed_over: called with a message for each folder that holds other files, too.
    """

    def refuse(error: OSError) -> None:
        raise error  # a folder that can't be read would be left out in silence

    files: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            walked = os.walk(path, onerror=refuse)
            inside = sorted(Path(root, name) for root, _, names in walked for name in names)
            inside = [f for f in inside if f.is_file()]
            inside = [f for f in inside if not f.name.startswith(".")]  # macOS's ._photo.jpg
            images = [str(f) for f in inside if f.suffix.lower() in SUFFIXES]
            others = [f.suffix or f.name for f in inside if f.suffix.lower() not in SUFFIXES]
            if images and others:
                kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(others).most_common(5))
                passed_over(f"{path}: left out {len(others)} files that aren't images ({kinds})")
            files += images or [path]
        elif path == "-" or os.path.exists(path):
            files.append(path)
        else:
            matches = sorted(f for f in glob.glob(path, recursive=True) if os.path.isfile(f))
            files += matches or [path]
    return files


def read_input(path: str) -> str | bytes:
    """Returns what to give `read_clean` for a path of `find_images`."""
    return sys.stdin.buffer.read(MAX_BYTES + 1) if path == "-" else path
