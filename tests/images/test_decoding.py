"""Which bytes are decoded as images, by which decoders, and how others are refused."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from photographs import on_paper, overlap
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
def test_the_formats_are_decoded(kind):
    stream = io.BytesIO()
    Image.fromarray(on_paper("三")).save(stream, kind)
    assert decode(stream.getvalue()).shape[2] == 4


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_fullest_frame_is_read(kind):
    """An animation that draws a character begins with blank paper and may end with it."""
    drawn = on_paper("三")
    half = drawn.copy()
    half[:, : half.shape[1] // 2] = 255
    frames = [Image.fromarray(f) for f in (np.full_like(drawn, 255), half, drawn, half)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    data = stream.getvalue()
    assert overlap(decode(data)[..., 0], drawn) > 0.9
    assert overlap(decode_grey(data), drawn) > 0.9


def test_heic_is_read_where_pillow_heif_is_installed(monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    drawn = on_paper("五")
    stream = io.BytesIO()
    heif.from_pillow(Image.fromarray(drawn).convert("RGB")).save(stream, quality=90)
    data = stream.getvalue()
    assert overlap(decode(data)[..., 0], drawn) > 0.9
    with pytest.raises(ImageError, match="million pixels"):
        decode(data, max_pixels=100)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIC file; `pip install hccr_tf\[heif\]`"):
        decode(data)


@pytest.mark.parametrize(
    ("start", "remedy"),
    [
        (b"%PDF-1.7", "PDF file; save its page as PNG"),
        (b"<svg xmlns", "SVG or XML file; save the drawing"),
        (b"8BPS", "Photoshop file"),
        (b"PK\x03\x04", "ZIP archive; unpack it"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000 file"),
    ],
)
def test_known_files_are_named_with_what_to_do(start, remedy):
    with pytest.raises(ImageError, match=remedy):
        decode(start + bytes(200))


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
        with pytest.raises(ImageError, match=r"^no image that can be decoded$|file; save it"):
            read(stream.getvalue())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        *((error, "is damaged or cut off") for error in (RuntimeError, struct.error, KeyError)),
        (MemoryError, "takes more memory than there is"),
    ],
)
def test_whatever_a_decoder_raises_is_damage(error, message, monkeypatch):
    def fail(self):
        raise error

    stream = io.BytesIO()
    Image.new("L", (20, 20)).save(stream, "PNG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    for read in (decode, decode_grey):
        with pytest.raises(ImageError, match=f"^image that {message}$"):
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
    assert find_images([str(tmp_path)]) == [str(tmp_path)]  # and a folder is no image
