"""Image files whose path names their class, as in the repack of CASIA-HWDB on Kaggle.

`<...>/Train/<class>/<n>.png`, `<class>_<n>.png`, `<class>/<writer>/<n>.png`, in a folder or an
archive, or as a file of labels says.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hccr_tf.data.sources.folder_names import read_name
from hccr_tf.data.sources.reader import Reader, SourceFile
from hccr_tf.data.sources.records import Record, RepairedName, Sample, Skipped, split_of_path
from hccr_tf.images.cleaning import clean
from hccr_tf.images.decoding import SUFFIXES, decode, decode_grey
from hccr_tf.utils.errors import HccrError

NAMELESS = "name stands for no character (--labels FILE gives them)"
"""Why such images are skipped."""
_MAX_BYTES = 64 << 20  # a damaged or hostile archive may claim any size
_MAX_SIDE = 65535  # what the store's 16-bit sizes hold


class ImageFolderReader(Reader):
    """Reads images that a folder's name, their own or a file of labels gives a class."""

    kind = "images in one folder per class, or named by it, or with --labels"
    priority = -10
    by_path = True

    def __init__(self, options: dict[str, Any]) -> None:
        self._level, self._form, _ = options["naming"]
        self._photographs = options["photographs"]
        self._characters: dict[str | None, str | None] = {None: None}

    @classmethod
    def claims(cls, name: str) -> bool:
        """Claims images."""
        return name.lower().endswith(SUFFIXES)

    def read(self, file: SourceFile) -> Iterator[Record]:
        """Yields the sample, or why there is none; the first of a class its repaired name too."""
        name = file.class_name
        if name is not None and name not in self._characters:
            character, page = read_name(name, self._form) or (None, None)
            self._characters[name] = character
            if character is not None and page is not None:
                yield RepairedName(name, character, page)
        character = self._characters[name]
        try:
            if character is None:
                raise HccrError(NAMELESS)
            image = read_image(file, self._photographs)
        except HccrError as error:
            yield Skipped(file.source, None, file.num_bytes, str(error))
            return
        # The class folder's own name says nothing about the split; one within it is a writer's.
        folders = file.source.split("/")[:-1]
        writer = folders[1 - self._level] if self._level > 1 else None
        if self._level:
            del folders[-self._level]
        split = split_of_path(folders)
        yield Sample(image, character, writer, file.source, split)


def read_image(file: SourceFile, photographs: bool = False) -> np.ndarray:
    """Reads an image file, uint8 grey (height, width), cleaned if it is a photograph.

    Raises:
        HccrError: It cannot be read; the message is a fixed phrase, fit to be counted.
    """
    if file.num_bytes > _MAX_BYTES:
        raise HccrError("image file of more than 64 MiB")
    data = file.read()
    image = clean(decode(data)) if photographs else decode_grey(data)
    if max(image.shape) > _MAX_SIDE:
        raise HccrError(f"image of more than {_MAX_SIDE} pixels on a side")
    return image
