"""From an image of a character to the character: files, arrays, scans and photographs."""

import copy
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data.loading.preprocessing import VIEWS
from hccr_tf.evaluation.metrics import most_probable
from hccr_tf.images.cleaning import ImageError
from hccr_tf.images.decoding import MAX_BYTES, MAX_PIXELS, find_images, read_candidates, read_input
from hccr_tf.images.layout import LayoutGuess, halves, several_characters
from hccr_tf.pretrained import EXPORTED, FOLDER, find_run
from hccr_tf.utils.backend import without_notes
from hccr_tf.utils.errors import HccrError, naming_extra
from hccr_tf.utils.files import read_json
from hccr_tf.utils.progress import track
from hccr_tf.utils.schema import between

if TYPE_CHECKING:
    from hccr_tf.inference.predictor import Predictor

logger = logging.getLogger(__name__)

CALIBRATION = "calibration.json"
CALIBRATED = {"temperature": Annotated[float, between(1e-3, 1e3)]}
_REMEDY = "calibrate the run again (hccr calibrate)"
LEVELS = {1: "gb2312-1", 2: "gb2312"}
_BATCH = 32
_SURE = 0.7  # probability below which it's looked what may not belong to a character
_MARGIN = 0.3  # so much surer than the whole what's left must be read
_HALVES = 0.9  # probability above which both halves of an image are characters


@dataclass(frozen=True)
class Recognition:
    """What one image was read as: the most probable character.

    `probability` is calibrated, 0 to 1, among the characters that compete; `alternatives` are the
    next ones with theirs, the most probable first.
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
        workdir: folder of a training run or of packed weights, its `Predictor`, or an ONNX file of
            `export_run`; None for the weights that come with the package.
        level: which characters compete: 1 for the 3,755 of GB2312 level 1, 2 for all 6,763 of
            GB2312, None for all that the run knows.
        tta: whether each image is read in all views of the run's test-time augmentation, and the
            mean of the logits counts, as in `predict_split`; or once, as it is.

    Attributes:
        charset: characters in class order, those that don't compete included.
        predictor: the network and how its images are prepared.
        competing: bool (C,), which characters can be read.
        temperature: what logits are divided by; 1 where the run wasn't calibrated.

    Raises:
        HccrError: no run there, or a level of which it knows no character.

    Example:
        >>> recognizer = Recognizer()
        >>> recognizer.predict("photo.jpg")[0].character
        '永'
    """

    def __init__(
        self,
        workdir: "str | Path | Predictor | None" = None,
        *,
        level: int | None = None,
        tta: bool = True,
    ):
        self.predictor: Any
        if not (workdir is None or isinstance(workdir, str | Path)):
            self.predictor = workdir
            self.temperature = read_temperature(workdir.workdir.path)
        elif exported := exported_file(workdir):
            from hccr_tf.inference.onnx_predictor import OnnxPredictor

            self.predictor = OnnxPredictor(exported)
            self.temperature = self.predictor.temperature
        else:
            with naming_extra(), without_notes():
                from hccr_tf.inference.predictor import Predictor
            self.predictor = Predictor(find_run(workdir))
            self.temperature = read_temperature(find_run(workdir))
        self.charset: Charset = self.predictor.charset
        self._tta = self.predictor.preprocessing.tta if tta else "none"
        # Images for which a network is compiled; smaller batches are filled up.
        most = _BATCH // VIEWS[self._tta]
        self._batches = (1, most // 4, most)
        self.competing = self._competing(level)

    def _competing(self, level: int | None) -> np.ndarray:
        if level is None:
            return np.ones(len(self.charset), bool)
        if level not in LEVELS:
            raise HccrError(f"level is 1 or 2, not {level!r}.")
        allowed = Charset.named(LEVELS[level])
        competing = np.array([c in allowed for c in self.charset])
        if not competing.any():
            raise HccrError(f"This run knows no character of GB2312 level {level}.")
        return competing

    def at_level(self, level: int | None) -> "Recognizer":
        """Returns a recogniser of the same weights, shared, in which a level's characters compete.

        Raises:
            HccrError: as the class does for its `level`.
        """
        other = copy.copy(self)
        other.competing = self._competing(level)
        return other

    def predict(
        self,
        images: Any,
        top_k: int = 5,
        *,
        single: bool = True,
        min_probability: float = 0.0,
        on_error: Literal["raise", "return"] = "raise",
        progress: bool = False,
    ) -> list[Any]:
        """Reads images of any size, ink dark or light.

        Args:
            images: one or several: paths, folders, patterns, bytes of image files, binary files,
                Pillow images, or uint8 arrays (H, W), (H, W, 3) RGB or (H, W, 4).
            top_k: how many characters to name.
            single: whether to refuse images of several characters.
            min_probability: 0 to 1; what no character reaches is refused as none of them.
            on_error: "raise", or "return" for the error in place of what can't be read.
            progress: whether to show a bar where somebody looks.

        Returns:
            A `Recognition` or the `ImageError` of each in order, of a folder of all in it.

        Raises:
            ImageError: an image, named by path or position, can't be read or isn't single.
        """
        if on_error not in ("raise", "return"):
            raise HccrError(f'on_error is "raise" or "return", not {on_error!r}.')
        named = _named(images)
        each = self.predict_each([image for _, image in named], top_k, single=single)
        answers: list[Recognition | ImageError] = []
        for (name, _), answer in zip(
            named, track(each, "reading", len(named), progress), strict=True
        ):
            if isinstance(answer, Recognition) and answer.probability < min_probability:
                likeliest = f"{answer.character}, {100 * answer.probability:.0f} %"
                answer = ImageError(f"it is none of the known characters (likeliest: {likeliest})")
            if isinstance(answer, ImageError):
                answer = ImageError(f"{name}: {answer}")
                if on_error == "raise":
                    raise answer
            answers.append(answer)
        return answers

    def predict_each(
        self,
        images: Iterable[Any],
        top_k: int = 5,
        *,
        single: bool = True,
        max_pixels: int = MAX_PIXELS,
    ) -> Iterator[Recognition | ImageError]:
        """Yields what `predict` returns, some images at a time; takes no folders and patterns.

        Files of more than `max_pixels` are refused.
        """
        if top_k < 1:
            raise HccrError("top_k is at least 1.")
        images = iter(images)
        while batch := list(itertools.islice(images, _BATCH)):
            each = [_candidates(image, single, max_pixels) for image in batch]
            yield from self._read_best(each, top_k, single)

    def look(
        self, image: Any, top_k: int = 5, *, single: bool = True
    ) -> list[tuple[np.ndarray, Recognition]]:
        """Returns the clean images that were read to read one, with what they were read as.

        The first is the answer of `predict`; more than one there are where it doubted the ink as
        it was found, which then is among them.

        Raises:
            ImageError: as `predict`.
        """
        looked: list[tuple[np.ndarray, Recognition]] = []
        best = 0
        for i, one in enumerate(_candidates(image, single, MAX_PIXELS)):
            if isinstance(one, ImageError):
                raise one
            looked.append((one, self._read([one], top_k)[0]))
            if looked[0][1].probability >= _SURE:
                break
            best = i if _is_surer(looked[i][1], looked[best][1], looked[0][1]) else best
        return [looked.pop(best), *looked]

    def _read_best(
        self, each: Sequence[Iterator[np.ndarray | ImageError]], top_k: int, single: bool
    ) -> list[Recognition | ImageError]:
        """Reads the first candidate of each image, and where it doubts all others."""
        first = [next(images) for images in each]
        read = iter(self._read([image for image in first if isinstance(image, np.ndarray)], top_k))
        answers = [image if isinstance(image, ImageError) else next(read) for image in first]
        doubted = {
            i: (image, answer)
            for i, (image, answer) in enumerate(zip(first, answers, strict=True))
            if isinstance(image, np.ndarray)
            and isinstance(answer, Recognition)
            and answer.probability < _SURE
        }
        if single:
            cut = [(i, part) for i, (image, _) in doubted.items() for part in halves(image)]
            surest = [one.probability for one in self._read([part for _, part in cut], 1)]
            for (i, _), upper, lower in zip(cut[::2], surest[::2], surest[1::2], strict=True):
                if min(upper, lower) > max(_HALVES, doubted[i][1].probability + _MARGIN):
                    answers[i] = ImageError(several_characters(LayoutGuess(2, 2)))
                    del doubted[i]
        others = [(i, image) for i in doubted for image in each[i] if isinstance(image, np.ndarray)]
        read_again = self._read([image for _, image in others], top_k)
        for (i, _), answer in zip(others, read_again, strict=True):
            best = answers[i]
            if isinstance(best, Recognition) and _is_surer(answer, best, doubted[i][1]):
                answers[i] = answer
        return answers

    def rank(self, logits: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Ranks the characters that compete by logits (..., C), as `most_probable` does."""
        scaled = np.where(self.competing, logits / self.temperature, -np.inf)
        return most_probable(scaled, min(top_k, int(self.competing.sum())))

    def _read(self, images: Sequence[np.ndarray], top_k: int) -> list[Recognition]:
        """Reads clean images."""
        answers: list[Recognition] = []
        if not images:
            return answers
        for classes, probabilities in zip(*self.rank(self.logits(images), top_k), strict=True):
            characters = map(self.charset.char, classes.tolist())
            (first, probability), *others = zip(characters, probabilities.tolist(), strict=True)
            answers.append(Recognition(first, probability, tuple(others)))
        return answers

    def logits(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 (B, C) logits of clean images; calibration and levels aren't applied."""
        return np.array(list(self._logits(images)), np.float32).reshape(-1, len(self.charset))

    def _logits(self, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        largest, views = self._batches[-1], VIEWS[self._tta]
        for start in range(0, len(images), largest):
            chunk = images[start : start + largest]
            prepared = self.predictor.preprocessing.apply_views(chunk, self._tta)
            size = len(prepared)
            if self.predictor.compiles:
                size = views * next(b for b in self._batches if b >= len(chunk))
            filler = (0, size - len(prepared)), (0, 0), (0, 0), (0, 0)
            logits = self.predictor.logits(np.pad(prepared, filler))[: len(prepared)]
            if not np.isfinite(logits).all():
                raise HccrError("The network's answers aren't finite: its weights are damaged.")
            yield from logits.reshape(len(chunk), views, -1).mean(axis=1)


def read_temperature(run: Path) -> float:
    """Returns what a run's logits are divided by; 1 where it wasn't calibrated."""
    file = run / CALIBRATION
    return read_json(file, CALIBRATED, _REMEDY)["temperature"] if file.exists() else 1.0


def exported_file(workdir: str | Path | None) -> Path | None:
    """Returns the ONNX file that is read in a run's place: the run itself, or the package's."""
    path, own = find_run(workdir), FOLDER / EXPORTED
    return path if path.suffix == ".onnx" else own if path == FOLDER and own.exists() else None


def _is_surer(answer: Recognition, best: Recognition, first: Recognition) -> bool:
    return answer.probability > max(best.probability, first.probability + _MARGIN)


def _candidates(image: Any, single: bool, max_pixels: int) -> Iterator[np.ndarray | ImageError]:
    """Yields what `read_candidates` does, and its error in place of more."""
    try:
        data = image.read(MAX_BYTES + 1) if hasattr(image, "read") else image
        yield from read_candidates(data, single=single, max_pixels=max_pixels)
    except ImageError as error:
        yield error


def _named(images: Any) -> list[tuple[str, Any]]:
    """Lists images with what errors call them; folders and patterns as the files in them."""
    if isinstance(images, np.ndarray):
        is_one = images.ndim == 2 or (images.ndim == 3 and images.shape[2] in (1, 3, 4))
    else:  # binary files are iterable; what's no sequence either is refused by name
        is_file = isinstance(images, str | Path | bytes | bytearray | memoryview)
        is_one = is_file or hasattr(images, "read") or not isinstance(images, Iterable)
    named: list[tuple[str, Any]] = []
    for i, image in enumerate([images] if is_one else images):
        if not isinstance(image, str | Path):
            named.append((f"image {i}", image))
            continue
        named += [(path, read_input(path)) for path in find_images([str(image)], logger.warning)]
    return named
