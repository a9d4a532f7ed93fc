"""Class activation maps: where in an image a network sees the character it reads.

Melnyk, You & Li 2018, sections 2.2 and 3.3. In a network that ends in a pooling and a
classifier the map is Σ_c W[c, k] F*_c, with F* the feature map as the pooling weighs it
(eqs. 1, 8, 9); the classifier's bias is left out. Elsewhere the same is done with what the
rest of the network would do to first order: Σ_c (∂ logit_k / ∂F ⊙ F)_c, which for a weighted
pooling is the very same map, and for a mean over h·w places that map divided by h·w (HiResCAM,
Draelos & Carin 2020).
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import keras
import numpy as np
import pandas as pd

from hccr_tf.data.dataset import Dataset
from hccr_tf.data.opening import open_dataset
from hccr_tf.images.cleaning import ImageError
from hccr_tf.images.contact_sheet import encode_png, sheet_image, text_image
from hccr_tf.images.decoding import find_images, read_clean, read_input
from hccr_tf.inference.predictor import Predictor
from hccr_tf.inference.recognizer import Recognizer
from hccr_tf.models import FEATURE_MAP, MAIN_OUTPUT, POOLING
from hccr_tf.utils.backend import input_gradient
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write, distinct_names, write_csv
from hccr_tf.utils.terminal import printable

logger = logging.getLogger(__name__)
_CANDIDATES = 64  # samples of a character that are looked at
_BATCH = 32
_SHOWN = 40  # images in the sheet
_STRENGTH = 0.6  # of the colours over the image
_COLOURS = "viridis"  # as light as the value is high, to every eye
_OVERLAY_PIXELS, _TILE_PIXELS = 640, 224
_LEAST_SIDE = 2  # a single place shows nothing of where
_PASSIVE = (keras.layers.InputLayer, keras.layers.Dropout, keras.layers.Identity)


class NamedImage(NamedTuple):
    """An image to make maps of."""

    name: str  # for tables
    label: str  # what stands under it
    image: np.ndarray  # uint8 (H, W), dark ink on white


def read_images(paths: Sequence[str], *, single: bool = True) -> list[NamedImage]:
    """Reads and cleans image files; of a folder all that lie in it.

    Files that can't be read or, with `single`, show several characters are logged and left out.

    Raises:
        HccrError: none is left.
    """
    images, files = [], find_images(paths, logger.warning)
    for file in files:
        try:
            image = read_clean(read_input(file), single=single)
            images.append(NamedImage(printable(file), Path(file).stem, image))
        except ImageError as error:
            logger.warning("%s: %s", file, error)
    if not images:
        raise HccrError(f"None of {len(files)} images could be read; see above.")
    return images


def sample_images(dataset: Dataset, indices: Sequence[int] | np.ndarray) -> list[NamedImage]:
    """Takes samples of a dataset, each with its character as its label."""
    indices = np.asarray(indices)
    labels = dataset.labels_for(dataset.charset, indices)
    samples = zip(dataset.sample_ids(indices), labels, dataset.images(indices), strict=True)
    return [
        NamedImage(name, dataset.charset.char(int(label)), np.array(image))
        for name, label, image in samples
    ]


def images_of_characters(
    data: str | Path | Dataset, split: str, characters: str, predictors: Sequence[Predictor]
) -> list[NamedImage]:
    """Takes a sample of each character that all models read rightly, or its first where none is.

    Raises:
        HccrError: a character has no sample in that split.
    """
    dataset = open_dataset(data)
    indices = dataset.indices(split)
    labels = dataset.labels_for(dataset.charset, indices)
    chosen = []
    for character in characters:
        candidates = indices[labels == dataset.charset.index(character)]
        if not len(candidates):
            raise HccrError(f"{dataset.path} has no sample of {character} in its split {split}.")
        # Always as many: TensorFlow compiles anew for each number.
        candidates = np.resize(candidates, _CANDIDATES)
        images, is_right = dataset.images(candidates), np.ones(_CANDIDATES, bool)
        for predictor in predictors:
            read = predictor.logits(predictor.preprocessing.apply_many(images)).argmax(axis=1)
            is_right &= read == predictor.charset.index(character)
        chosen.append(candidates[is_right.argmax()])
    return sample_images(dataset, chosen)


class ActivationMaps(NamedTuple):
    """Maps of a batch, positive where the features speak for the class."""

    maps: np.ndarray  # float32 (B, K, h, w)
    classes: np.ndarray  # int64 (B, K), whose maps they are
    logits: np.ndarray  # float32 (B, num_classes) of the images


class ActivationMapper:
    """Makes class activation maps with one network.

    Args:
        model: a registered model, as `create_model` or `Predictor.model` gives it.
        layer: name of the layer whose output is the feature map. By default `feature_map`
            where its sides have at least 2 places, else the last layer before it whose have.

    Attributes:
        layer: name of that layer.
        through_gradients: whether the network doesn't go from that layer through one pooling
            straight to its classifier, so that maps are made through gradients.

    Raises:
        HccrError: no layer of that name, or none with a map.

    Example:
        >>> mapper = ActivationMapper(Predictor("runs/mine").model)
        >>> mapper(np.zeros((2, 96, 96, 1), np.uint8)).maps.shape
        (2, 1, 6, 6)
    """

    def __init__(self, model: keras.Model, layer: str | None = None):
        self.layer, features = _feature_map(model, layer)
        logits, self._model = model.output[MAIN_OUTPUT], model
        self._features = keras.Model(model.input, [features, logits])
        # With the image as an input too, networks that also lead past the map work.
        self._rest = keras.Model([model.input, features], logits)
        self.through_gradients = self.layer != FEATURE_MAP or not _is_pooled_and_classified(model)

    def __call__(
        self, images: np.ndarray, classes: Sequence[int] | np.ndarray | None = None
    ) -> ActivationMaps:
        """Maps images as `Preprocessing` makes them: uint8 (B, H, W, 1), or one (H, W, 1).

        Classes are indices (B,) or (B, K), or one for one image; if None, what each is read as.

        Raises:
            HccrError: classes that don't fit the images or the network.
        """
        images = np.asarray(images)
        if images.ndim == 3:
            images = images[None]
        features, logits = (
            keras.ops.convert_to_numpy(x).astype(np.float32)
            for x in self._features(keras.ops.array(images), training=False)
        )
        if classes is None:
            classes = logits.argmax(axis=1)
        classes = np.atleast_1d(np.asarray(classes, np.int64))
        classes = classes.reshape(len(classes), -1)
        if len(classes) != len(images):
            raise HccrError(f"{len(classes)} rows of classes don't fit {len(images)} images.")
        if classes.size and not 0 <= classes.min() <= classes.max() < logits.shape[1]:
            raise HccrError(f"Classes are 0 to {logits.shape[1] - 1}; not {classes.tolist()}.")
        if self.through_gradients:
            columns = [self._by_gradient(images, features, column) for column in classes.T]
            maps = np.stack(columns, axis=1)
        else:
            maps = self._by_weights(features, classes)
        return ActivationMaps(maps, classes, logits)

    def _by_weights(self, features, classes) -> np.ndarray:
        pooling = self._model.get_layer(POOLING)
        if hasattr(pooling, "weighted"):
            features = keras.ops.convert_to_numpy(pooling.weighted(keras.ops.array(features)))
        kernel = keras.ops.convert_to_numpy(self._model.get_layer(MAIN_OUTPUT).kernel)
        kernel = kernel.astype(np.float32)[:, classes]
        return np.einsum("bhwc,cbk->bkhw", features, kernel, optimize=True)

    def _by_gradient(self, images, features, column) -> np.ndarray:
        images, column = keras.ops.array(images), keras.ops.array(column[:, None])

        def logit(tensor):
            logits = self._rest([images, tensor], training=False)
            return keras.ops.take_along_axis(logits, column, axis=1)

        return (input_gradient(logit, features) * features).sum(axis=-1)


def upsample(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarges maps (..., h, w) bilinearly to (..., *size) (Melnyk et al. 2018, section 4.3)."""
    maps = np.asarray(maps, np.float32)
    flat = maps.reshape(-1, *maps.shape[-2:])
    enlarged = [cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR) for m in flat]
    return np.stack(enlarged).reshape(*maps.shape[:-2], *size)


def overlay(
    image: np.ndarray, cam: np.ndarray, limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Lays a map (h, w) in colours over its prepared image, uint8 (H, W) or (H, W, 1).

    Violet and yellow are the limits, or the map's own least and greatest value; a map without
    differences is all violet. Returned is RGB, uint8 (640, 640, 3).
    """
    from matplotlib import colormaps

    size = (_OVERLAY_PIXELS, _OVERLAY_PIXELS)
    image = cv2.resize(np.asarray(image).squeeze(), size, interpolation=cv2.INTER_CUBIC)
    enlarged = upsample(cam, size)
    low, high = limits or (float(enlarged.min()), float(enlarged.max()))
    scaled = np.clip((enlarged - low) / ((high - low) or 1), 0, 1)
    colours = 255 * colormaps[_COLOURS](scaled)[..., :3]
    return np.rint(_STRENGTH * colours + (1 - _STRENGTH) * image[..., None]).astype(np.uint8)


def write_cams(
    recognizers: Sequence[Recognizer],
    images: Sequence[NamedImage],
    out: str | Path,
    *,
    top_k: int = 1,
    layer: str | None = None,
    save_input: bool = False,
) -> pd.DataFrame:
    """Writes the maps of several runs, by a `Recognizer` of a `Predictor` each, for some images.

    `cam.png` has a row for each of the first 40 images and each rank, a column for each run and
    the image itself at the right; under each map stand character and probability, which are the
    recogniser's. The map is that of the image as it is, without test-time augmentation.
    `cam.csv` says the same of all images in numbers, as the table that is returned, `maps.npz`
    holds RUN/maps, float32 (images, top_k, h, w), and RUN/classes, int64 (images, top_k), and
    `overlays/` has each map over its prepared image; with `save_input`, `inputs/` has what each
    network saw, in its own size. There's at least one run and one image; `layer` is as for
    `ActivationMapper`.

    Raises:
        HccrError: more ranks than classes, or no such layer.
    """
    fewest = min(int(r.competing.sum()) for r in recognizers)
    if not 1 <= top_k <= fewest:
        raise HccrError(f"top_k is 1 to {fewest}, the number of classes; not {top_k}.")
    out = Path(out)
    for folder in ("overlays", *(["inputs"] if save_input else [])):
        (out / folder).mkdir(parents=True, exist_ok=True)
    names = distinct_names([r.predictor.workdir.path for r in recognizers])
    rows = []
    arrays: dict[str, Any] = {}
    tiles: dict[tuple[int, int], list] = defaultdict(list)  # by image and rank, a row of the sheet
    for name, recognizer in zip(names, recognizers, strict=True):
        predictor = recognizer.predictor
        mapper = ActivationMapper(predictor.model, layer)
        method = "gradients" if mapper.through_gradients else "weights"
        parts = []
        for begin in range(0, len(images), _BATCH):
            batch = images[begin : begin + _BATCH]
            pixels = [named.image for named in batch]
            prepared = predictor.preprocessing.apply_many(pixels)
            for i, seen in enumerate(prepared if save_input else (), begin + 1):
                _write_png(out / "inputs" / f"{i:03d}-{name}.png", seen[..., 0])
            mapped, probabilities = recognizer.rank(recognizer.logits(pixels), top_k)
            parts.append(mapper(prepared, mapped))
            for i, rank in np.ndindex(mapped.shape):
                label, number = int(mapped[i, rank]), begin + i
                character, probability = predictor.charset.char(label), probabilities[i, rank]
                coloured = overlay(prepared[i], parts[-1].maps[i, rank])
                # Every system takes a code point in a file's name.
                file = f"{number + 1:03d}-{name}-{rank + 1}-U+{ord(character):04X}.png"
                _write_png(out / "overlays" / file, coloured)
                if number < _SHOWN:
                    text = f"{name}: {character} {100 * probability:.1f} %"
                    tiles[number, rank].append((coloured, text))
                read = (batch[i].name, name, rank + 1, character, round(float(probability), 6))
                rows.append((*read, mapper.layer, method, f"overlays/{file}"))
        arrays[f"{name}/maps"] = np.concatenate([part.maps for part in parts])
        arrays[f"{name}/classes"] = np.concatenate([part.classes for part in parts])
    for (number, rank), row in tiles.items():
        row.append((None if rank else images[number].image, images[number].label))
    drawn, texts = zip(*(tile for row in tiles.values() for tile in row), strict=True)
    columns = len(recognizers) + 1
    sheet = sheet_image(drawn, texts, columns=columns, tile=_TILE_PIXELS, text_size=22)
    _write_png(out / "cam.png", np.concatenate([sheet, _legend(sheet.shape[1])]))
    with atomic_write(out / "maps.npz") as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)
    names = ["image", "run", "rank", "character", "probability", "layer", "method", "overlay"]
    table = pd.DataFrame(rows, columns=names)
    write_csv(out / "cam.csv", table)
    return table


def _write_png(path: Path, image: np.ndarray) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(encode_png(image))


def _legend(width: int) -> np.ndarray:
    """Draws what the colours of maps mean: RGB, uint8 (height, width, 3)."""
    from matplotlib import colormaps

    words = text_image("the map's least value, and its greatest: what spoke for the character", 14)
    bar = np.linspace(0, 1, min(240, width - 16))
    legend = np.full((18 + words.shape[0], width, 3), 255, np.uint8)
    legend[:14, 8 : 8 + len(bar)] = np.rint(255 * colormaps[_COLOURS](bar)[:, :3])
    shown = words[:, : width - 16, None]
    legend[18:, 8 : 8 + shown.shape[1]] = shown
    return legend


def _feature_map(model: keras.Model, name: str | None) -> tuple[str, Any]:
    """Returns name and output of the layer that's mapped."""
    outputs = {layer.name: layer.output for layer in model.layers}
    maps = {name: x for name, x in outputs.items() if len(getattr(x, "shape", ())) == 4}
    if name is not None:
        if name not in maps:
            raise HccrError(f"There's no layer {name!r} with a map; those are: {', '.join(maps)}.")
        return name, maps[name]
    # What has no weights before it is the image, made larger or of three channels at most.
    names = list(outputs)
    first = next(i for i, layer in enumerate(model.layers) if layer.weights)
    for one in reversed(names[first : names.index(FEATURE_MAP) + 1]):
        if one in maps and min(maps[one].shape[1:3]) >= _LEAST_SIDE:
            return one, maps[one]
    raise HccrError(
        f"No layer of {model.name} has a map of at least {_LEAST_SIDE}×{_LEAST_SIDE}; its "
        "images are too small for one. Train with larger ones, or, a network of "
        "keras.applications, with --model.enlarge 2."
    )


def _is_pooled_and_classified(model: keras.Model) -> bool:
    """Whether one pooling and a linear classifier are all that follows the feature map."""
    pooling, classifier = model.get_layer(POOLING), model.get_layer(MAIN_OUTPUT)
    known = hasattr(pooling, "weighted") or isinstance(pooling, keras.layers.GlobalAveragePooling2D)
    if not (
        known
        and isinstance(classifier, keras.layers.Dense)
        and pooling.input is model.get_layer(FEATURE_MAP).output
    ):
        return False
    rest = keras.Model(pooling.output, classifier.output).layers
    return all(layer is classifier or isinstance(layer, _PASSIVE) for layer in rest)
