"""NumPy's `.npz` files: arrays of images, and of their labels.

`x_train`, `y_train`, `x_test`, `y_test`; `images`, `labels` … Labels are characters, or numbers of
classes, whose order `--charset` or a file of labels gives.
"""

import io
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from hccr_tf.data.sources.folder_names import decide_form, read_name
from hccr_tf.data.sources.reader import Reader, SourceFile
from hccr_tf.data.sources.records import Sample, Skipped, split_of_path
from hccr_tf.data.sources.zip_stream import ARCHIVE_ERRORS
from hccr_tf.utils.errors import HccrError


class NpzReader(Reader):
    """Reads images of uint8 or of 0 to 1, (n, height, width), grey or RGB, light ink inverted."""

    kind = ".npz files of images and labels"

    def __init__(self, options: dict[str, Any]) -> None:
        self._classes = options["classes"]

    @classmethod
    def claims(cls, name: str) -> bool:
        """Claims by the ending."""
        return name.lower().endswith(".npz")

    def read(self, file: SourceFile) -> Iterator[Sample | Skipped]:
        """Yields all images of all pairs of arrays, numbered under their array's name.

        Raises:
            HccrError: Nothing says which characters the numbers are, or which labels belong to
                which images.
        """
        try:
            with np.load(io.BytesIO(file.read()), allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
        except (HccrError, ValueError, OSError, *ARCHIVE_ERRORS):
            yield Skipped(file.source, None, file.num_bytes, "array file that cannot be read")
            return
        for name, images in arrays.items():
            if images.ndim < 3:
                continue
            split = split_of_path([name])
            labels = [
                array
                for other, array in arrays.items()
                if array.shape == images.shape[:1] and split_of_path([other]) == split
            ]
            if len(labels) != 1:
                kinds = ", ".join(f"{n} {a.dtype} {a.shape}" for n, a in arrays.items())
                raise HccrError(
                    f"{file.source}: {name} has no array of as many labels to it, or several "
                    f"({kinds}). Save images (n, height, width) as x_train, labels (n,) as y_train."
                )
            characters = self._characters(labels[0], file.source)
            split = split or split_of_path(file.source.split("/")[:-1])
            for i, (image, character) in enumerate(
                zip(_grey(images, file), characters, strict=True)
            ):
                yield Sample(image, character, None, f"{file.source}/{name}#{i}", split)

    def _characters(self, labels: np.ndarray, source: str) -> list[str]:
        classes = self._classes
        if labels.dtype.kind == "U":
            form, _ = decide_form(names := set(labels.tolist()))
            classes = {name: read[0] for name in names if (read := read_name(name, form))}
        elif labels.dtype.kind not in "iu":
            raise HccrError(f"{source} has labels of {labels.dtype}: save numbers or characters.")
        if unknown := (found := set(labels.tolist())) - set(classes):
            there = f"{len(classes):,} characters" if classes else "nothing"
            raise HccrError(
                f"{source} has labels {min(found)} to {max(found)}, and {there} for them (none "
                f"for {min(unknown)}). --charset NAME|FILE gives the characters in the numbers' "
                "order, or --labels FILE each number's."
            )
        return [classes[label] for label in labels.tolist()]


def _grey(images: np.ndarray, file: SourceFile) -> Iterator[np.ndarray]:
    """Yields images as uint8 grey, dark ink on light."""
    highest = images.max(initial=0)
    if images.dtype.kind in "fb" and highest <= 1:
        images = (images * np.float32(255)).round()
    channels = images.shape[3:]
    lowest = images.min(initial=0)
    if channels not in ((), (1,), (3,)) or not 0 <= lowest <= highest <= 255:
        raise HccrError(
            f"{file.source}: images are {images.dtype} {images.shape}, {lowest} to {highest}; read "
            "are uint8, or 0 to 1, (n, height, width) or (n, height, width, 3)."
        )
    inverted = np.median(images) < 128  # most of an image is paper
    for image in images.astype(np.uint8):
        image = (
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            if channels == (3,)
            else image.reshape(image.shape[:2])
        )
        yield 255 - image if inverted else image
