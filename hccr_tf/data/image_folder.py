"""Pictures in one folder per class, as in the repack of CASIA-HWDB on Kaggle.

`<...>/Train/<class>/<n>.png`, in a folder or a zip archive. The class is the name of the folder
that holds the picture, repaired where an unpacking program broke it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hccr_tf.charset import guess_code_page, repair_name
from hccr_tf.data.readers import register_reader
from hccr_tf.data.samples import (
    ARCHIVE_ERRORS,
    Quarantined,
    Record,
    RepairedName,
    Sample,
    SourceFile,
    is_zip,
    iterate_files,
    list_names,
    split_of_path,
)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MAX_BYTES = 64 << 20
"""Largest picture file read: a damaged or hostile archive may claim any size."""
MAX_SIDE = 65535
"""Largest width and height: what the store's 16-bit sizes hold."""


def check_complete(data: bytes) -> None:
    """Checks that a picture file is whole, as decoders may fill what is missing with grey.

    Raises:
        ValueError: The file is empty, ends early, or fails a checksum; the message is the reason.
    """
    if not data:
        raise ValueError("empty file")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(data)
    elif data.startswith(b"\xff\xd8"):
        # The end marker must follow the last scan; an embedded preview has an end marker too.
        if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
            raise ValueError("truncated picture")
    elif data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little"):
        raise ValueError("truncated picture")


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
            raise ValueError("picture fails its checksum")
        if kind == b"IEND":
            return
        position = end
    raise ValueError("truncated picture")


def decode_picture(data: bytes) -> np.ndarray:
    """Decodes a PNG, JPEG, BMP or TIFF file to grey.

    Transparent pixels are laid over white, colours become luma (0.299 R + 0.587 G + 0.114 B), 16
    bits are rounded to 8.

    Args:
        data: The file's content.

    Returns:
        Shape (height, width), uint8.

    Raises:
        ValueError: The file cannot be read; the message is a fixed phrase, fit to be counted.
    """
    import cv2

    check_complete(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError("picture cannot be decoded")
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError("picture has an unsupported pixel type")
    if max(image.shape[:2]) > MAX_SIDE:
        raise ValueError("picture is too large")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels in (2, 4):
        alpha = image[..., -1:].astype(np.float32) / 255
        image = np.rint(image[..., :-1] * alpha + 255 * (1 - alpha)).astype(np.uint8)
        channels -= 1
    if channels == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    elif channels != 1:
        raise ValueError("picture has an unsupported number of channels")
    return np.ascontiguousarray(image.reshape(image.shape[:2]))


@register_reader
class ImageFolderReader:
    """Reads a folder or zip archive with one folder of pictures per class."""

    name = "pictures in one folder per class (a folder, or a zip archive)"
    priority = -10

    def __init__(self) -> None:
        self.done = 0
        self.total = 0

    @classmethod
    def recognise(cls, path: Path) -> bool:
        if not (path.is_dir() or is_zip(path)):
            return False
        return any(name.lower().endswith(SUFFIXES) for name in list_names(path))

    def read(self, path: Path) -> Iterator[Record]:
        """Yields every file: a sample, or quarantined with its reason; `done` counts files."""
        names = set()
        for name in list_names(path):
            self.total += 1
            names.add(_class_name(path, name))
        preferred = guess_code_page(name for name in names if name is not None)
        characters: dict[str | None, str | None] = {None: None}
        for file in iterate_files(path):
            name = _class_name(path, file.name)
            if name not in characters:
                try:
                    characters[name], page = repair_name(name, preferred=preferred)
                except ValueError:
                    characters[name] = None
                else:
                    if page is not None:
                        yield RepairedName(name, characters[name], page)
            yield _read_file(file, characters[name])
            self.done += 1


def _read_file(file: SourceFile, character: str | None) -> Record:
    try:
        if file.suffix not in SUFFIXES:
            raise ValueError("not a picture")
        if character is None:
            raise ValueError("folder name stands for no character")
        if file.num_bytes > MAX_BYTES:
            raise ValueError("picture is too large")
        try:
            with file.open() as stream:
                data = stream.read()
        except (*ARCHIVE_ERRORS, OSError) as error:
            raise ValueError(
                "archive member fails its checksum"
                if "CRC" in str(error)
                else "file cannot be read"
            ) from error
        image = decode_picture(data)
    except ValueError as error:
        return Quarantined(file.source, None, file.num_bytes, str(error))
    # The class folder's own name says nothing about the split.
    split = split_of_path(file.source.split("/")[:-2])
    return Sample(image, character, None, file.source, split)


def _class_name(path: Path, name: str) -> str | None:
    """Returns the name of the folder that a file lies in, or None in the root of an archive."""
    parts = name.split("/")
    if len(parts) > 1:
        return parts[-2]
    return path.name if path.is_dir() else None
