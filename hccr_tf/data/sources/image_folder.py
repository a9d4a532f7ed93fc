"""Images in one folder per class, as in the repack of CASIA-HWDB on Kaggle.

`<...>/Train/<class>/<n>.png`, in a folder or an archive. The class is the name of the folder
that holds the image, repaired where an unpacking program broke it.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from hccr_tf.charset import guess_code_page, repair_name
from hccr_tf.data.sources.reader import SourceFile, register_reader
from hccr_tf.data.sources.records import Record, RepairedName, Sample, Skipped, split_of_path
from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS
from hccr_tf.images.cleaning import clean
from hccr_tf.images.decoding import SUFFIXES, decode
from hccr_tf.utils.errors import HccrError

NAMELESS = "folder name stands for no character"
"""Why such images are in quarantine."""
MAX_BYTES = 64 << 20
"""Largest image file read: a damaged or hostile archive may claim any size."""
MAX_SIDE = 65535
"""Largest width and height: what the store's 16-bit sizes hold."""
MAX_PIXELS = 1 << 24
"""Most pixels of an image: a file of some kilobytes can claim thousands of millions."""


def check_complete(data: bytes) -> None:
    """Checks that an image file is whole, as decoders may fill what is missing with grey.

    Raises:
        HccrError: The file is empty, ends early, or fails a checksum; the message is the reason.
    """
    if not data:
        raise HccrError("empty file")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(data)
    elif data.startswith(b"\xff\xd8"):
        # The end marker must follow the last scan; an embedded preview has an end marker too.
        if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
            raise HccrError("truncated image")
    elif data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little"):
        raise HccrError("truncated image")


def _check_png(data: bytes) -> None:
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            break
        (crc,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != crc:
            raise HccrError("image fails its checksum")
        if kind == b"IEND":
            return
        position = end
    raise HccrError("truncated image")


def _check_size(data: bytes) -> None:
    """Checks the size that an image claims, before any memory is taken for it."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        width, height = struct.unpack_from(">II", data, 16)
    else:
        from PIL import Image, UnidentifiedImageError

        try:
            with warnings.catch_warnings():
                # Pillow warns of large images, which are refused here anyway.
                warnings.simplefilter("ignore")
                width, height = Image.open(io.BytesIO(data)).size
        except Image.DecompressionBombError:
            raise HccrError("image is too large") from None
        except (UnidentifiedImageError, OSError, ValueError):
            raise HccrError("image cannot be decoded") from None
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise HccrError("image is too large")


def decode_image(data: bytes) -> np.ndarray:
    """Decodes an image file to grey: PNG, JPEG, BMP, TIFF, WebP, GIF.

    Transparent pixels are laid over white, colours become luma (0.299 R + 0.587 G + 0.114 B), 16
    bits are rounded to 8.

    Args:
        data: The file's content.

    Returns:
        Shape (height, width), uint8.

    Raises:
        HccrError: The file cannot be read; the message is a fixed phrase, fit to be counted.
    """
    import cv2

    check_complete(data)
    _check_size(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise HccrError("image cannot be decoded")
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if image.dtype != np.uint8:
        raise HccrError("image has an unsupported pixel type")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels in (2, 4):
        alpha = image[..., -1:].astype(np.float32) / 255
        image = np.rint(image[..., :-1] * alpha + 255 * (1 - alpha)).astype(np.uint8)
        channels -= 1
    if channels == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    elif channels != 1:
        raise HccrError("image has an unsupported number of channels")
    return np.ascontiguousarray(image.reshape(image.shape[:2]))


@register_reader
class ImageFolderReader:
    """Reads images whose folder's name is their class."""

    name = "images in one folder per class"
    priority = -10

    def __init__(self, hints: dict[str, Any] | None = None) -> None:
        self._code_page = (hints or {}).get("code_page")
        self._photographs = (hints or {}).get("photographs", False)
        self._characters: dict[str | None, str | None] = {None: None}

    @classmethod
    def claims(cls, name: str) -> bool:
        return name.lower().endswith(SUFFIXES)

    @classmethod
    def hints(cls, folders: set[str]) -> dict[str, Any]:
        """One program unpacked them all: names that fit several code pages are decided by all."""
        return {"code_page": guess_code_page(folders)}

    def read(self, file: SourceFile) -> Iterator[Record]:
        """Yields the sample, or why there is none; the first of a class its repaired name too."""
        name = file.folder
        if name not in self._characters:
            try:
                self._characters[name], page = repair_name(name, preferred=self._code_page)
            except ValueError:
                self._characters[name] = None
            else:
                if page is not None:
                    yield RepairedName(name, self._characters[name], page)
        try:
            if self._characters[name] is None:
                raise HccrError(NAMELESS)
            image = read_image(file, self._photographs)
        except ValueError as error:
            yield Skipped(file.source, None, file.num_bytes, str(error))
            return
        # The class folder's own name says nothing about the split.
        split = split_of_path(file.source.split("/")[:-2])
        yield Sample(image, self._characters[name], None, file.source, split)


def read_image(file: SourceFile, photographs: bool = False) -> np.ndarray:
    """Reads and decodes an image file, from wherever it lies.

    Args:
        file: where it is.
        photographs: whether to clean it, as a scan or photograph.

    Returns:
        Shape (height, width), uint8 grey.

    Raises:
        HccrError: It cannot be read; the message is a fixed phrase, fit to be counted.
    """
    if file.num_bytes > MAX_BYTES:
        raise HccrError("image is too large")
    try:
        with file.open() as stream:
            data = stream.read()
    except (*ARCHIVE_ERRORS, OSError) as error:
        raise HccrError(
            "archive member fails its checksum" if "CRC" in str(error) else "file cannot be read"
        ) from error
    return clean(decode(data)) if photographs else decode_image(data)
