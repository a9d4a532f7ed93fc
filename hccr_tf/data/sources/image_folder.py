"""Images in one folder per class, as in the repack of CASIA-HWDB on Kaggle.

`<...>/Train/<class>/<n>.png`, in a folder or an archive. The class is the name of the folder
that holds the image, repaired where an unpacking program broke it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hccr_tf.data.sources.folder_names import guess_code_page, repair_name
from hccr_tf.data.sources.reader import Reader, SourceFile
from hccr_tf.data.sources.records import Record, RepairedName, Sample, Skipped, split_of_path
from hccr_tf.images.cleaning import clean
from hccr_tf.images.decoding import SUFFIXES, decode, decode_grey
from hccr_tf.utils.errors import HccrError

NAMELESS = "folder name stands for no character"
"""Why such images are skipped."""
_MAX_BYTES = 64 << 20  # a damaged or hostile archive may claim any size
_MAX_SIDE = 65535  # what the store's 16-bit sizes hold


class ImageFolderReader(Reader):
    """Reads images whose folder's name is their class."""

    kind = "images in one folder per class"
    priority = -10

    def __init__(self, context: dict[str, Any]) -> None:
        self._code_page = context.get("code_page")
        self._photographs = context.get("photographs", False)
        self._characters: dict[str | None, str | None] = {None: None}

    @classmethod
    def claims(cls, name: str) -> bool:
        """Claims images."""
        return name.lower().endswith(SUFFIXES)

    @classmethod
    def context(cls, folders: set[str]) -> dict[str, Any]:
        """One program unpacked them all: names that fit several code pages are decided by all."""
        return {"code_page": guess_code_page(folders)}

    def read(self, file: SourceFile) -> Iterator[Record]:
        """Yields the sample, or why there is none; the first of a class its repaired name too."""
        name = file.folder
        if name is not None and name not in self._characters:
            try:
                character, page = repair_name(name, preferred=self._code_page)
            except HccrError:
                self._characters[name] = None
            else:
                self._characters[name] = character
                if page is not None:
                    yield RepairedName(name, character, page)
        character_of_folder = self._characters[name]
        try:
            if character_of_folder is None:
                raise HccrError(NAMELESS)
            image = read_image(file, self._photographs)
        except HccrError as error:
            yield Skipped(file.source, None, file.num_bytes, str(error))
            return
        # The class folder's own name says nothing about the split.
        split = split_of_path(file.source.split("/")[:-2])
        yield Sample(image, character_of_folder, None, file.source, split)


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
