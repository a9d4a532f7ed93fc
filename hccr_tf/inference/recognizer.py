"""From an image of a character to the character: files, arrays, scans and photographs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.images.cleaning import ImageError
from hccr_tf.images.decoding import read_clean
from hccr_tf.inference.calibration import read_temperature
from hccr_tf.inference.predictor import Predictor
from hccr_tf.pretrained import find_run
from hccr_tf.utils.errors import HccrError

LEVELS = {1: "gb2312-1", 2: "gb2312"}
_BATCH = 32
# Test-time augmentation: widths and heights by which an image is stretched. People's proportions
# differ more than those of the drawn images that the package's weights have learnt from.
_STRETCHES = ((1.0, 1.0), (1.2, 1.0), (1.0, 1.2))


@dataclass(frozen=True)
class Recognition:
    """What one image was read as.

    Attributes:
        character: the most probable character.
        probability: its calibrated probability, 0 to 1, among the characters that compete.
        alternatives: the next ones with their probabilities, the most probable first.
    """

    character: str
    probability: float
    alternatives: tuple[tuple[str, float], ...]

    @property
    def code_point(self) -> str:
        """Such as "U+6C38"."""
        return f"U+{ord(self.character):04X}"


class Recognizer:
    """Reads images of single characters with the package's own weights, or with a run's.

    Args:
        workdir: folder of a training run, or of packed weights; None for those that come with
            the package.
        level: which characters compete: 1 for the 3,755 of GB2312 level 1, 2 for all 6,763 of
            GB2312, None for all that the run knows.
        tta: test-time augmentation: each image is read as it is, wider and higher, and the
            mean of the logits counts. Off in runs whose preparation doesn't keep the aspect.

    Attributes:
        charset: characters in class order, those that don't compete included.
        predictor: the network and how its images are prepared.
        competing: bool (C,), which characters can be read.
        temperature: what logits are divided by, so that probabilities are true to frequencies;
            1 where the run wasn't calibrated.

    Raises:
        HccrError: no run there, or a level of which it knows no character.

    Example:
        >>> recognizer = Recognizer()
        >>> recognizer.predict("photo.jpg")[0].character
        '永'
    """

    def __init__(
        self, workdir: str | Path | None = None, *, level: int | None = None, tta: bool = True
    ):
        path = find_run(workdir)
        self.predictor = Predictor(path)
        self.charset: Charset = self.predictor.charset
        self.temperature = read_temperature(path)
        keeps_aspect = self.predictor.preprocessing.fit == "pad"
        self._stretches = _STRETCHES if tta and keeps_aspect else _STRETCHES[:1]
        # Images for which a network is compiled; smaller batches are filled up.
        most = _BATCH // len(self._stretches)
        self._batches = (1, most // 4, most)
        self.level = level
        self.competing = np.ones(len(self.charset), bool)
        if level is not None:
            if level not in LEVELS:
                raise HccrError(f"level is 1 or 2, not {level!r}.")
            allowed = Charset.named(LEVELS[level])
            self.competing = np.array([c in allowed for c in self.charset])
            if not self.competing.any():
                raise HccrError(f"{path} knows no character of GB2312 level {level}.")

    def predict(self, images: Any, top_k: int = 5, *, single: bool = True) -> list[Recognition]:
        """Reads images.

        Args:
            images: one image or a sequence of them: paths, bytes of image files, Pillow
                images, or uint8 arrays (H, W), (H, W, 3) RGB or (H, W, 4). Any size, ink dark or
                light.
            top_k: how many characters to name.
            single: whether to refuse images of several characters.

        Returns:
            What each was read as, in the images' order.

        Raises:
            ImageError: an image can't be read or doesn't show a single character; it's named
                by its path or its place.
        """
        if _is_one(images):
            images = [images]
        cleaned = []
        for i, image in enumerate(images):
            try:
                cleaned.append(read_clean(image, single=single))
            except ImageError as error:
                name = str(image) if isinstance(image, str | Path) else f"image {i}"
                raise ImageError(f"{name}: {error}") from None
        return self.predict_clean(cleaned, top_k)

    def predict_clean(self, images: Sequence[np.ndarray], top_k: int = 5) -> list[Recognition]:
        """Reads images uint8 (H, W) that are dark ink on 255 already, as `clean` makes them."""
        top_k = min(top_k, int(self.competing.sum()))
        if top_k < 1:
            raise HccrError("top_k is at least 1.")
        found = []
        for logits in self._logits(images):
            logits = np.where(self.competing, logits / self.temperature, -np.inf)
            first = np.argpartition(-logits, top_k - 1)[:top_k]
            first = first[np.argsort(-logits[first], kind="stable")]
            highest = logits[first[0]]
            probabilities = np.exp(logits[first] - highest) / np.exp(logits - highest).sum()
            named = [
                (self.charset.char(int(c)), float(p))
                for c, p in zip(first, probabilities, strict=True)
            ]
            found.append(Recognition(*named[0], tuple(named[1:])))
        return found

    def logits(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """float32 (B, C) logits of clean images; calibration and levels aren't applied."""
        return np.array(list(self._logits(images)), np.float32).reshape(-1, len(self.charset))

    def _logits(self, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        largest, views = self._batches[-1], len(self._stretches)
        for start in range(0, len(images), largest):
            chunk = images[start : start + largest]
            size = views * next(b for b in self._batches if b >= len(chunk))
            prepared = self.predictor.preprocessing.apply_many(
                [_stretched(image, *by) for image in chunk for by in self._stretches]
            )
            if size > len(prepared):
                filler = np.zeros((size - len(prepared), *prepared.shape[1:]), np.uint8)
                prepared = np.concatenate([prepared, filler])
            logits = self.predictor.logits(prepared)[: views * len(chunk)]
            yield from logits.reshape(len(chunk), views, -1).mean(axis=1)


def _stretched(image: np.ndarray, width: float, height: float) -> np.ndarray:
    import cv2

    if width == height == 1:
        return image
    size = round(image.shape[1] * width), round(image.shape[0] * height)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def _is_one(images: Any) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim == 2 or (images.ndim == 3 and images.shape[2] in (1, 3, 4))
    # What's no sequence either is refused by name.
    kinds = str | Path | bytes | bytearray | memoryview
    return isinstance(images, kinds) or not isinstance(images, Iterable)
