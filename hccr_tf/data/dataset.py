"""What training and prediction need of any data."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.store.format import DATASET_SCHEMA, FILE_SCHEMA, MANIFEST, STROKES_FORMAT
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import read_json, sha256_file
from hccr_tf.utils.schema import check
from hccr_tf.utils.terminal import printable


class Dataset(ABC):
    """Images by number, with their labels: a store on disk, or images drawn when asked for.

    Attributes:
        path: The dataset's folder.
        manifest: What its `manifest.json` says.
        charset: The characters of the class indices.
        data_hash: 64 hexadecimal digits that identify images, labels and splits.

    Raises:
        FileNotFoundError: There is no dataset at the path, or one of its files is missing.
        HccrError: It has another format, a file another size than it should, or was altered.
    """

    format: ClassVar[str]
    schema: ClassVar[dict[str, Any]]  # of the manifest, besides what every dataset has
    remedy: ClassVar[str]  # a command

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not (self.path / MANIFEST).is_file():
            raise FileNotFoundError(
                f"{self.path} is no store (it has no {MANIFEST}); make one with `{self.remedy}`"
            )
        manifest = self.path / MANIFEST
        again = f"make the store again with `{self.remedy}`"
        self.manifest: dict[str, Any] = read_json(manifest, dict[str, Any], again)
        kind = self.manifest.get("format")
        if kind == STROKES_FORMAT != self.format:
            raise HccrError(
                f"{self.path} is a store of strokes, which are drawn in training and calibrated "
                f"with, and not taken here; give a store of images ({self.remedy})"
            )
        if kind != self.format:
            raise HccrError(
                f"{self.path} has the format {kind!r}, and {self.format!r} is needed; {again}"
            )
        for schema in (DATASET_SCHEMA, self.schema):
            check(self.manifest, schema, manifest, again)
        for name, entry in self.manifest["files"].items():
            check(entry, FILE_SCHEMA, manifest, again, f"files.{name}")
            file = self.path / name
            if not file.is_file():
                raise FileNotFoundError(f"{self.path} is incomplete: {name} is missing")
            if file.stat().st_size != entry["num_bytes"]:
                raise HccrError(
                    f"{file} has {file.stat().st_size} bytes instead of {entry['num_bytes']}; "
                    f"{again}"
                )
            if entry.get("sha256", "") not in ("", sha256_file(file)):
                raise HccrError(f"{self.path} is damaged: {name} changed; {again}")
        self.charset = Charset.from_text(self.manifest["charset"]["characters"])
        if self.charset.sha256 != self.manifest["charset"]["sha256"]:
            raise HccrError(f"{manifest} was altered: its charset has another hash")
        self.data_hash: str = self.manifest["data_hash"]

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of images."""

    @abstractmethod
    def indices(self, split: str) -> np.ndarray:
        """Returns the numbers of a split's images, int64; of "train", those of epoch 0."""

    def at_epoch(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        """Returns the images that stand for those of epoch 0 in another: unless drawn, the same."""
        return indices

    @abstractmethod
    def images(self, indices: np.ndarray) -> list[np.ndarray]:
        """Returns images, each uint8 (height, width), as the source has them."""

    def image(self, index: int) -> np.ndarray:
        """Returns one image, uint8 (height, width)."""
        return self.images(np.array([index]))[0]

    @abstractmethod
    def class_indices(self, indices: np.ndarray) -> np.ndarray:
        """Returns class indices under the dataset's own charset, integers (n,)."""

    def labels_for(self, charset: Charset, indices: np.ndarray) -> np.ndarray:
        """Returns class indices of images under another charset, int32 (n,).

        Raises:
            HccrError: The charset lacks characters of the dataset; the message names them.
        """
        if missing := [c for c in self.charset if c not in charset]:
            more = " …" if len(missing) > 20 else ""
            raise HccrError(
                f"the charset of {len(charset)} characters lacks {len(missing)} of the store "
                f"{self.path}: {' '.join(missing[:20])}{more}"
            )
        table = np.array([charset.index(c) for c in self.charset], np.int32)
        return table[self.class_indices(indices)]

    def verify(self) -> None:  # noqa: B027  Nothing but images is left when it was opened.
        """Reads what opening doesn't, the images, and compares their checksums.

        Raises:
            HccrError: Something changed; the message names it.
        """

    @abstractmethod
    def sample_ids(self, indices: Iterable[int]) -> list[str]:
        """Returns a name for each image that stays the same whatever is read beside it."""

    def summary(self) -> str:
        """Describes the dataset in a few lines of text, for `hccr data show`."""
        lines = [("store", str(self.path)), ("data hash", self.data_hash), *self._facts()]
        return "\n".join(f"{title:<12}{printable(text)}" for title, text in lines)

    @abstractmethod
    def _facts(self) -> list[tuple[str, str]]: ...


def shortened(text: str) -> str:
    """Returns a charset's text with its middle left out where it's long."""
    return text if len(text) <= 40 else f"{text[:20]} … {text[-20:]}"
