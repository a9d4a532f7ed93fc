"""MNIST, Fashion-MNIST and what else comes in their two forms: Keras's `.npz` and IDX files.

`mnist.npz` holds the arrays x_train, y_train, x_test and y_test; the IDX form is a file of
images and one of labels for each of train and t10k. Labels are 0 to 9, and the classes are the
digits "0" to "9". Fashion-MNIST has the same names within and its classes too are called by
number: 0 T-shirt/top, 1 Trouser, 2 Pullover, 3 Dress, 4 Coat, 5 Sandal, 6 Shirt, 7 Sneaker,
8 Bag, 9 Ankle boot.

Images are white on black there and inverted on reading, as in all stores ink is dark on white.
They are read as streams by blocks: what a header claims never decides how much memory is taken.
"""

from __future__ import annotations

import gzip
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from hccr_tf.charset import DIGITS
from hccr_tf.data.sources.image_folder import MAX_PIXELS, MAX_SIDE
from hccr_tf.data.sources.reader import SourceFile, register_reader
from hccr_tf.data.sources.records import SampleBlock, Skipped
from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS
from hccr_tf.utils.errors import HccrError

MAX_IMAGES = 1 << 24
"""Most images of an array: its labels are in memory at once."""

_CODES = np.array([ord(character) for character in DIGITS], np.uint32)
_BLOCK = 1 << 20
_PIECE = 1 << 15  # Bytes per read: what fails to unpack is lost by the piece.
# The same bounds as for the members of archives.
_BOMB_RATIO, _BOMB_BYTES = 250, 256 << 20
_ERRORS = (*ARCHIVE_ERRORS, OSError, struct.error)


# === Images and labels, wherever they come from ===


@dataclass(frozen=True, slots=True)
class _Array:
    """An array that is about to be read.

    Attributes:
        stream: Stands at the array's first byte.
        source: The name to report under.
        shape: As the header claims.
        dtype: Of an item.
        offset: Bytes before the array, unpacked.
        packed: Bytes that it is unpacked from, None where it is not packed.
    """

    stream: BinaryIO
    source: str
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    packed: int | None

    def check(self) -> None:
        """Checks what the header claims, before anything is read or memory taken for it.

        Raises:
            HccrError: It is not plausible; the message is a fixed phrase, fit to be counted.
        """
        count, *sides = self.shape
        if count == 0 or 0 in sides:
            raise HccrError("array is empty")
        if count > MAX_IMAGES:
            raise HccrError("too many images in an array")
        area = 1
        for side in sides:
            area *= side
        if max(sides, default=0) > MAX_SIDE or area > MAX_PIXELS:
            raise HccrError("image is too large")
        num_bytes = count * area * self.dtype.itemsize
        if (
            self.packed is not None
            and num_bytes > _BOMB_BYTES
            and num_bytes > _BOMB_RATIO * self.packed
        ):
            raise HccrError("unpacks to more than 250 times its size")


def _take(stream: BinaryIO, count: int) -> tuple[bytes, Exception | None]:
    """Reads up to `count` bytes: fewer where the stream ends, or fails with the error returned."""
    pieces = []
    while count:
        try:
            # Not `read`, which drops what it has already when the stream fails.
            piece = stream.read1(min(count, _PIECE))
        except _ERRORS as error:
            return b"".join(pieces), error
        if not piece:
            break
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces), None


def _reason(error: Exception) -> str:
    if "CRC" in str(error):
        return "archive member fails its checksum"
    return "file cannot be read further"


def _read_labels(array: _Array) -> tuple[np.ndarray, list[Skipped]]:
    """Reads labels to the end.

    Returns:
        Shape (n,), whole numbers, fewer than claimed where the file is damaged; and its faults.
    """
    size = array.dtype.itemsize
    num_bytes = array.shape[0] * size
    data, error = _take(array.stream, num_bytes)
    labels = np.frombuffer(data, array.dtype, len(data) // size)
    end = array.offset + num_bytes
    if len(labels) == array.shape[0]:
        return labels, list(_rest(array, end, "bytes after the last label"))
    offset = array.offset + len(labels) * size
    reason = "file ends before its last label" if error is None else _reason(error)
    return labels, [Skipped(array.source, offset, end - offset, reason)]


def _pairs(images: _Array, labels: np.ndarray, split: str) -> Iterator[SampleBlock | Skipped]:
    """Yields images with their labels by blocks, and at the end what is left over.

    Args:
        images: Checked, of shape (images, height, width) and uint8.
        labels: Shape (n,), whole numbers, n at most the number of images.
        split: Of all of them.
    """
    count, height, width = images.shape
    area = height * width
    per_block = max(1, _BLOCK // area)
    number, error = 0, None
    while number < len(labels):
        some = labels[number : number + per_block]
        data, error = _take(images.stream, len(some) * area)
        whole = len(data) // area
        yield from _blocks(images, data[: whole * area], some[:whole], number, split)
        number += whole
        if whole < len(some):
            break
    offset = images.offset + number * area
    end = images.offset + count * area
    if number < len(labels):
        reason = "file ends before its last image" if error is None else _reason(error)
        yield Skipped(images.source, offset, end - offset, reason)
    elif number < count:
        yield Skipped(images.source, offset, end - offset, "image without a label")
    else:
        yield from _rest(images, end, "bytes after the last image")


def _rest(array: _Array, end: int, reason: str) -> Iterator[Skipped]:
    """Yields what follows the array; reading on is also what checks an archive's checksum."""
    data, error = _take(array.stream, _BLOCK)
    if data:
        yield Skipped(array.source, end, len(data), reason)
    if error is not None:
        yield Skipped(array.source, end + len(data), 0, _reason(error))


def _blocks(
    images: _Array, data: bytes, labels: np.ndarray, first: int, split: str
) -> Iterator[SampleBlock | Skipped]:
    if not len(labels):
        return
    _, height, width = images.shape
    area = height * width
    pixels = 255 - np.frombuffer(data, np.uint8)
    sound = (labels >= 0) & (labels < len(DIGITS))
    # By runs of sound ones, so that "#17" in an id is always the image's place in its file.
    places = np.arange(len(labels), dtype=np.int64)
    for run in np.split(places, np.flatnonzero(np.diff(sound)) + 1):
        if sound[run[0]]:
            yield SampleBlock(
                pixels.data,
                run * area,
                np.full_like(run, height),
                np.full_like(run, width),
                _CODES[labels[run]],
                first + int(run[0]),
                None,
                images.source,
                split,
            )
            continue
        for place in run.tolist():
            offset = images.offset + (first + place) * area
            yield Skipped(images.source, offset, area, "label outside 0 to 9")


def _check_pair(images: _Array, labels: _Array) -> None:
    """Checks both headers, alone and against each other.

    Raises:
        HccrError: As `_Array.check`.
    """
    images.check()
    labels.check()
    if images.shape[0] != labels.shape[0]:
        # Each may be sound, but they do not belong together, and every label could be wrong.
        raise HccrError("images and labels differ in number")


# === Keras's .npz ===


@register_reader
class MnistNpzReader:
    """Reads the arrays of a `.npz`; ids are "mnist.npz/x_train.npy#17"."""

    name = "MNIST as Keras saves it (.npz with x_train, y_train, x_test, y_test)"
    priority = 10

    def __init__(self, hints: dict[str, Any] | None = None) -> None:
        pass

    @classmethod
    def claims(cls, name: str) -> bool:
        return name.lower().endswith(".npz")

    @classmethod
    def hints(cls, folders: set[str]) -> dict[str, Any]:
        return {}

    def read(self, file: SourceFile) -> Iterator[SampleBlock | Skipped]:
        """Yields the samples of train and test, and what is not read of the file.

        Offsets are within the unpacked `.npy` members. Nothing is ever unpickled.
        """
        try:
            with file.open() as stream, zipfile.ZipFile(stream) as archive:
                yield from _read_npz(archive, file)
        except (*_ERRORS, ValueError):
            yield Skipped(file.source, None, file.num_bytes, ".npz file cannot be opened")


def _read_npz(archive: zipfile.ZipFile, file: SourceFile) -> Iterator[SampleBlock | Skipped]:
    members = {info.filename: info for info in archive.infolist()}
    pairs = {split: (f"x_{split}.npy", f"y_{split}.npy") for split in ("train", "test")}
    wanted = {id(members[name]) for pair in pairs.values() for name in pair if name in members}
    if not wanted:
        yield Skipped(
            file.source, None, file.num_bytes, "no arrays x_train, y_train, x_test, y_test"
        )
        return
    for split, names in pairs.items():
        found = [members[name] for name in names if name in members]
        if len(found) == 2:
            yield from _read_arrays(archive, file, *found, split)
        elif not found:
            yield Skipped(
                f"{file.source}/{names[0]}", None, 0, "no arrays of this split in the file"
            )
        else:
            reason = f"{'labels' if found[0].filename == names[0] else 'images'} array is missing"
            yield Skipped(f"{file.source}/{found[0].filename}", None, found[0].file_size, reason)
    for info in archive.infolist():
        if id(info) not in wanted:
            yield Skipped(
                f"{file.source}/{info.filename}",
                None,
                info.file_size,
                "array other than x_train, y_train, x_test, y_test",
            )


def _read_arrays(
    archive: zipfile.ZipFile, file: SourceFile, x: zipfile.ZipInfo, y: zipfile.ZipInfo, split: str
) -> Iterator[SampleBlock | Skipped]:
    source = f"{file.source}/{x.filename}"
    try:
        with ExitStack() as stack:
            labels = _open_npy(stack, archive, file, y)
            if labels.dtype.kind not in "iu" or len(labels.shape) != 1:
                raise HccrError("labels are no array of whole numbers of shape (images,)")
            images = _open_npy(stack, archive, file, x)
            if images.dtype != np.uint8 or len(images.shape) != 3:
                raise HccrError("images are no uint8 array of shape (images, height, width)")
            _check_pair(images, labels)
            numbers, faults = _read_labels(labels)
            yield from faults
            yield from _pairs(images, numbers, split)
    except _ERRORS:
        yield Skipped(source, None, x.file_size, "array cannot be read")
    except ValueError as error:
        yield Skipped(source, None, x.file_size, str(error))


def _open_npy(
    stack: ExitStack, archive: zipfile.ZipFile, file: SourceFile, info: zipfile.ZipInfo
) -> _Array:
    """Opens a member and reads its header, nothing more.

    Raises:
        HccrError: It is no array that is read here; the message is a fixed phrase.
        One of `ARCHIVE_ERRORS` or OSError: The member cannot be read.
    """
    try:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise HccrError("NumPy packs in no other way")
        stream = stack.enter_context(archive.open(info))
        with warnings.catch_warnings():
            # NumPy warns of headers written by Python 2, as very old copies have.
            warnings.simplefilter("ignore")
            # Other versions, for headers above 64 KiB and odd names, are not needed for these
            # arrays, and would let a file say how much memory its header takes.
            if np.lib.format.read_magic(stream) != (1, 0):
                raise HccrError("another version")
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.hasobject or not all(length >= 0 for length in shape):
            raise HccrError("Python objects")
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise HccrError("no plain NumPy array") from None
    if by_columns and len(shape) > 1:
        raise HccrError("array is stored by columns; save numpy.ascontiguousarray of it")
    packed = min(info.compress_size, file.num_bytes)
    return _Array(stream, f"{file.source}/{info.filename}", shape, dtype, stream.tell(), packed)


# === IDX files ===

_IDX = re.compile(
    r"(?:.*/)?(train|t10k)-(images(?=.idx3)|labels(?=.idx1))[-.]idx[13]-ubyte(?:\.gz)?"
)
_SPLITS = {"train": "train", "t10k": "test"}
_DIMENSIONS = {"images": 3, "labels": 1}


def _forms(part: str, kind: str) -> list[str]:
    """Returns the names under which a file occurs, the one that is read if several do first."""
    end = f"idx{_DIMENSIONS[kind]}-ubyte"
    return [f"{part}-{kind}{mark}{end}{packed}" for packed in ("", ".gz") for mark in "-."]


@register_reader
class MnistIdxReader:
    """Reads images with the labels file beside them; ids are "train-images-idx3-ubyte#17".

    A file that lies there in several forms (unpacked and as `.gz`, as torchvision leaves them) is
    read in one, and the others are listed.
    """

    name = "MNIST as IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-…, or .gz)"
    priority = 10

    def __init__(self, hints: dict[str, Any] | None = None) -> None:
        pass

    @classmethod
    def claims(cls, name: str) -> bool:
        return _IDX.fullmatch(name) is not None

    @classmethod
    def hints(cls, folders: set[str]) -> dict[str, Any]:
        return {}

    def read(self, file: SourceFile) -> Iterator[SampleBlock | Skipped]:
        """Yields the samples of a file of images; of one of labels only what is wrong with it.

        Offsets are within the unpacked content.
        """
        match = _IDX.fullmatch(file.name)
        part, kind = match[1], match[2]
        forms = _forms(part, kind)
        earlier = forms[: forms.index(file.name.rsplit("/", 1)[-1])]
        other = file.beside(_forms(part, "labels" if kind == "images" else "images"))
        try:
            if file.beside(earlier) is not None:
                raise HccrError("another form of the file, beside it, is read")
            if other is None:
                raise HccrError(
                    "labels file is missing beside the images"
                    if kind == "images"
                    else "images file is missing beside the labels"
                )
            with ExitStack() as stack:
                array = _open_idx(stack, file, kind)
                if kind == "images":
                    yield from _read_images(array, other, _SPLITS[part])
                else:
                    array.check()
                    yield from _read_labels(array)[1]
        except _ERRORS:
            yield Skipped(file.source, None, file.num_bytes, "file cannot be read")
        except ValueError as error:
            yield Skipped(file.source, None, file.num_bytes, str(error))


def _open_idx(stack: ExitStack, file: SourceFile, kind: str) -> _Array:
    """Opens a file and reads its header.

    Raises:
        HccrError: It is none of its kind; the message is a fixed phrase.
        One of `ARCHIVE_ERRORS` or OSError: It cannot be opened.
    """
    if file.num_bytes == 0:
        raise HccrError("empty file")
    stream = stack.enter_context(file.open())
    packed = file.suffix == ".gz"
    if packed:
        stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
    dimensions = _DIMENSIONS[kind]
    head, error = _take(stream, 4 + 4 * dimensions)
    if error is not None:
        raise error
    # The magic number: two zeros, the code of uint8, the number of dimensions.
    if len(head) < 4 + 4 * dimensions or head[:4] != bytes([0, 0, 8, dimensions]):
        what = "images" if kind == "images" else "labels"
        raise HccrError(f"no IDX file of {what}")
    shape = struct.unpack_from(f">{dimensions}I", head, 4)
    size = file.num_bytes if packed else None
    return _Array(stream, file.source, shape, np.dtype(np.uint8), len(head), size)


def _read_images(
    images: _Array, labels_file: SourceFile, split: str
) -> Iterator[SampleBlock | Skipped]:
    with ExitStack() as stack:
        try:
            if labels_file.refusal is not None:
                raise HccrError(labels_file.refusal)
            labels = _open_idx(stack, labels_file, "labels")
        except (*_ERRORS, ValueError):
            raise HccrError("labels file cannot be read") from None
        _check_pair(images, labels)
        # Its faults are listed under its own name.
        numbers, _ = _read_labels(labels)
    yield from _pairs(images, numbers, split)
