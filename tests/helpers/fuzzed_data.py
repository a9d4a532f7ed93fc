"""Images, archives and .gnt files, damaged: kinds of `fuzzing`."""

import io
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from fuzzing import Attempt, kind
from mutations import damage
from photographs import coloured, on_paper, written
from PIL import Image

from hccr_tf.utils.errors import HccrError


def image_files() -> list[bytes]:
    """Small image files of every format and mode that's read."""
    grey = on_paper("九", 10)[::2, ::2]
    colour = coloured(grey)
    images: list[bytes] = []

    def add(image: Image.Image, form: str, **options: Any) -> None:
        stream = io.BytesIO()
        image.save(stream, form, **options)
        images.append(stream.getvalue())

    black, rgb = Image.fromarray(grey), Image.fromarray(colour)
    rgba = rgb.convert("RGBA")
    rgba.putalpha(Image.fromarray(255 - grey))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for image in (
        black,
        rgb,
        rgba,
        rgb.convert("P"),
        black.convert("1"),
        deep,
        black.convert("LA"),
    ):
        add(image, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, Any]
    for image, options in (
        (black, {}),
        (rgb, {"progressive": True, "quality": 60}),
        (rgb.convert("CMYK"), {}),
        (rgb, {"exif": exif, "dpi": (300, 300), "comment": b"x" * 50}),
    ):
        add(image, "JPEG", **options)
    for image in (black, rgb, rgb.convert("P"), black.convert("1")):
        add(image, "BMP")
    floats = Image.fromarray(grey.astype(np.float32) / 255)
    for image, options in (
        (black, {}),
        (rgb, {"compression": "tiff_lzw"}),
        (black.convert("1"), {"compression": "group4"}),
        (deep, {"compression": "tiff_adobe_deflate"}),
        (floats, {}),
        (rgb, {"compression": "jpeg"}),
    ):
        add(image, "TIFF", **options)
    add(rgb, "WEBP")
    add(rgba, "WEBP", lossless=True)
    add(black, "GIF")
    add(rgb.convert("P"), "GIF", save_all=True, append_images=[rgb.convert("P")], duration=50)
    return images


@kind
def images(folder: Path) -> Attempt:
    """Image files through `predict`, and through `prepare`, plain and as photographs."""
    from hccr_tf import Recognizer
    from hccr_tf.data.sources.records import Skipped
    from hccr_tf.images.cleaning import ImageError

    recognizer, sound = Recognizer(tta=False), image_files()
    source = folder / "source" / "九" / "1.png"
    source.parent.mkdir(parents=True)

    def attempt(draw: random.Random) -> None:
        data = damage(draw.choice(sound), draw, sound)
        if draw.randrange(2):
            (answer,) = recognizer.predict_each([data], single=False)
            if isinstance(answer, ImageError):
                raise answer
            assert 0 < answer.probability <= 1
            return
        source.write_bytes(data)
        skipped = [r for r in _records(source, draw.randrange(4) == 0) if isinstance(r, Skipped)]
        if skipped:
            raise HccrError(skipped[0].reason)

    return attempt


def _records(path: Path, photographs: bool = False) -> list:
    from hccr_tf.data.sources.discovery import Discovery

    discovery = Discovery(path.parent / "scratch", photographs)
    discovery.add(path)
    return [
        *discovery.skipped,
        *(record for chunk in discovery.chunks for record in chunk.records()),
    ]


def _gnt() -> bytes:
    image = written("七")[::2, ::2]
    height, width = image.shape
    head = struct.pack("<I2sHH", 10 + image.size, "七".encode("gbk"), width, height)
    return (head + image.tobytes()) * 3


@kind
def gnt(folder: Path) -> Attempt:
    """.gnt files: every byte is in a record or in what's skipped."""
    from hccr_tf.data.sources.gnt import read_blocks
    from hccr_tf.data.sources.records import Skipped

    sound = _gnt()

    def attempt(draw: random.Random) -> None:
        data, skipped, read = damage(sound, draw), 0, 0
        for record in read_blocks(io.BytesIO(data), "1.gnt", len(data)):
            if isinstance(record, Skipped):
                skipped += record.num_bytes
            else:
                samples = record.samples()
                read += sum(10 + sample.image.size for sample in samples)
        assert skipped + read == len(data)
        if skipped:
            raise HccrError("a part is skipped")

    return attempt


@kind
def archives(folder: Path) -> Attempt:
    """Zip archives of images, of .gnt files, and of archives."""
    from hccr_tf.data.sources.records import Skipped

    sound, path = [], folder / "source" / "a.zip"
    path.parent.mkdir(parents=True)
    inner = io.BytesIO()
    image = image_files()[0]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            archive.writestr("Train/九/1.png", image)
            archive.writestr("Test/七/2.png", image)
            archive.writestr("1.gnt", _gnt())
            if method == zipfile.ZIP_DEFLATED:
                archive.writestr("inner.zip", inner.getvalue())
        inner = inner if inner.getvalue() else stream
        sound.append(stream.getvalue())

    def attempt(draw: random.Random) -> None:
        path.write_bytes(damage(draw.choice(sound), draw, sound))
        if any(isinstance(record, Skipped) for record in _records(path)):
            raise HccrError("a part is skipped")

    return attempt
