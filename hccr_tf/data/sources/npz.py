"""NumPy's `.npz` files: arrays of images, and of their labels.

`x_train`, `y_train`, `x_test`, `y_test`; `images`, `labels` … Labels are characters, or numbers of
classes, whose order `--charset` or a file of labels gives.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from hccr_tf.data.sources.folder_names import decide_form, read_name
from hccr_tf.data.sources.reader import Reader, SourceFile
from hccr_tf.data.sources.records import Sample, Skipped, split_of_path
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.schema import decoding


class NpzReader(Reader):
    """Reads all images of all pairs of arrays, light ink inverted."""

    kind = ".npz files of images and labels"

    def __init__(self, options: dict[str, Any]) -> None:
        self._classes = options["classes"]

    @classmethod
    def claims(cls, name: str) -> bool:
        """Claims by the ending."""
        return name.lower().endswith(".npz")

    def read(self, file: SourceFile) -> Iterator[Sample | Skipped]:
        """Yields the samples, numbered under the name of their array.

        Raises:
            HccrError: The arrays are none of images and labels, or nothing says which characters
                the numbers are.
        """
        try:
            data = io.BytesIO(file.read())
            with decoding(file.source), np.load(data, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
        except HccrError:
            yield Skipped(file.source, None, file.num_bytes, "array file that cannot be read")
            return
        of_split = {name: split_of_path([name]) for name in arrays}
        for name in (name for name, array in arrays.items() if array.ndim > 2):
            images, split = arrays[name], of_split[name]
            labels = [
                array
                for other, array in arrays.items()
                if array.shape == images.shape[:1] and of_split[other] == split
            ]
            grey = _grey(images)
            if grey is None or len(labels) != 1 or labels[0].dtype.kind not in "iuU":
                raise HccrError(
                    f"{file.source}: images are uint8 or 0 to 1, (n, height, width) or (n, height, "
                    "width, 3), as x_train, and labels (n,) numbers or characters, as y_train; not "
                    + ", ".join(f"{n} {a.dtype} {a.shape}" for n, a in arrays.items())
                )
            split = split or split_of_path(file.source.split("/")[:-1])
            characters = self._characters(labels[0].tolist(), file.source)
            for i, (image, character) in enumerate(zip(grey, characters, strict=True)):
                yield Sample(image, character, None, f"{file.source}/{name}#{i}", split)

    def _characters(self, labels: list[Any], source: str) -> list[str]:
        classes, found = self._classes, set(labels)
        if isinstance(labels[0], str):
            form, _ = decide_form(found)
            classes = {name: read[0] for name in found if (read := read_name(name, form))}
        if unknown := found - set(classes):
            raise HccrError(
                f"{source} has labels {min(found)} to {max(found)}, and no character for "
                f"{min(unknown)}: --charset NAME|FILE gives those of all numbers, in order, "
                "--labels FILE each number's."
            )
        return [classes[label] for label in labels]


def _grey(images: np.ndarray) -> np.ndarray | None:
    """Returns uint8 (n, height, width), dark ink on light; None for what are no images."""
    grey = images.astype(np.float32)
    if images.dtype.kind in "fb" and grey.max(initial=0) <= 1:
        grey *= 255
    if images.shape[3:] == (3,):
        grey = grey @ np.array([0.299, 0.587, 0.114], np.float32)
    if grey.size != np.prod(images.shape[:3]) or not 0 <= grey.min() <= grey.max() <= 255:
        return None
    drawn = np.rint(grey).astype(np.uint8).reshape(images.shape[:3])
    return 255 - drawn if np.median(drawn) < 128 else drawn  # most of an image is paper
