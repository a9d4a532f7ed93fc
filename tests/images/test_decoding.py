"""Which bytes are decoded as images, by which decoders, and how others are refused."""

import io
import os
import struct
import subprocess
import zlib

import numpy as np
import pytest
from photographs import on_paper
from PIL import Image, ImageFile

from hccr_tf.images.cleaning import ImageError
from hccr_tf.images.decoding import FORMATS, decode, decode_grey, find_images

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 20
%%EndComments
0 0 20 20 rectfill
%%EOF
"""


@pytest.mark.parametrize("kind", FORMATS)
def test_six_formats_are_decoded(kind):
    stream = io.BytesIO()
    Image.fromarray(on_paper("三")).save(stream, kind)
    assert decode(stream.getvalue()).shape[2] == 4


@pytest.mark.parametrize("kind", ["EPS", "PPM", "ICO", "TGA", "PCX"])
def test_no_other_decoder_is_reached_whatever_the_name(kind, monkeypatch):
    def start(*arguments, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    stream = io.BytesIO(EPS)
    if kind != "EPS":
        stream = io.BytesIO()
        Image.new("RGB", (20, 20)).save(stream, kind)
    for read in (decode, decode_grey):
        with pytest.raises(ImageError, match=r"^no image that can be decoded$"):
            read(stream.getvalue())


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, struct.error, KeyError, TypeError])
def test_whatever_a_decoder_raises_is_damage(error, monkeypatch):
    def fail(self):
        raise error

    stream = io.BytesIO()
    Image.new("L", (20, 20)).save(stream, "PNG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    for read in (decode, decode_grey):
        with pytest.raises(ImageError, match=r"^image that is damaged or cut off$"):
            read(stream.getvalue())


def _png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG file of one bit a pixel."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0")
    chunks = (
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_one_limit_of_200_million_pixels_and_none_below():
    """Telephones make 16320 × 12240 pixels, which Pillow by itself refuses."""
    with pytest.raises(ImageError, match="^image that is damaged or cut off$"):
        decode(_png_of(16_320, 12_240))
    with pytest.raises(ImageError, match="^image of more than 200 million pixels$"):
        decode(_png_of(16_320, 12_256))


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "closed").mkdir()
    assert find_images([str(tmp_path)]) == [str(tmp_path / "a.png")]
    scandir = os.scandir

    def scan(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(PermissionError, match="closed"):
        find_images([str(tmp_path)])


def test_a_pipe_in_a_folder_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="no image in"):
        find_images([str(tmp_path)])
