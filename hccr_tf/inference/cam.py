"""Class activation maps: where in an image a network sees the character it reads.

Melnyk, You & Li 2018, sections 2.2 and 3.3. In a network that ends in a pooling and a
classifier the map is Σ_c W[c, k] F*_c, with F* the feature map as the pooling weighs it
(eqs. 1, 8, 9); the classifier's bias is left out. Elsewhere the same is done with what the
rest of the network would do to first order: Σ_c (∂ logit_k / ∂F ⊙ F)_c, which for a weighted
pooling is the very same map, and for a mean over h·w places that map divided by h·w (HiResCAM,
Draelos & Carin 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pandas as pd

from hccr_tf.evaluation.metrics import most_probable, softmax
from hccr_tf.images.contact_sheet import draw_sheet, encode_png
from hccr_tf.inference.images import NamedImage
from hccr_tf.inference.predictor import Predictor
from hccr_tf.models import FEATURE_MAP, MAIN_OUTPUT, POOLING
from hccr_tf.utils.backend import input_gradient
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write, distinct_names

_BATCH = 32
_SHOWN = 40  # images in the sheet
_LEAST_SIDE = 2  # a single place shows nothing of where
_PASSIVE = (keras.layers.InputLayer, keras.layers.Dropout, keras.layers.Identity)


@dataclass(frozen=True)
class ActivationMaps:
    """Maps of a batch.

    Attributes:
        maps: float32 (B, K, h, w), for each image and class asked for; positive where the
            features speak for the class.
        classes: int64 (B, K), whose maps they are.
        logits: float32 (B, num_classes) of the images.
    """

    maps: np.ndarray
    classes: np.ndarray
    logits: np.ndarray


class ActivationMapper:
    """Makes class activation maps with one network.

    Args:
        model: a registered model, as `create_model` or `Predictor.model` gives it.
        layer: name of the layer whose output is the feature map. By default `feature_map`
            where its sides have at least 2 places, else the last layer before it whose
            output has.

    Attributes:
        layer: name of that layer.
        through_gradients: whether maps are made through gradients, because the network
            doesn't go from that layer through one pooling straight to its classifier.

    Raises:
        HccrError: no layer of that name, or none with a map.

    Example:
        >>> from hccr_tf import create_model
        >>> model = create_model("melnyk_net_c", num_classes=5, image_shape=(96, 96, 1))
        >>> mapper = ActivationMapper(model)
        >>> mapper(np.zeros((2, 96, 96, 1), np.uint8)).maps.shape
        (2, 1, 6, 6)
    """

    def __init__(self, model: keras.Model, layer: str | None = None):
        self.layer = layer or _map_layer(model)
        features = _output(model, self.layer)
        if len(features.shape) != 4:
            raise HccrError(
                f"The output of layer {self.layer!r} is no map (B, h, w, channels): "
                f"{features.shape}."
            )
        logits = model.output[MAIN_OUTPUT]
        self._features = keras.Model(model.input, [features, logits])
        self.through_gradients = not (
            self.layer == FEATURE_MAP and _is_pooled_and_classified(model)
        )
        if self.through_gradients:
            # With the image as an input too, networks that also lead past the map work.
            self._rest = keras.Model([model.input, features], logits)
        else:
            self._pooling = model.get_layer(POOLING)
            self._kernel = model.get_layer(MAIN_OUTPUT).kernel

    def __call__(
        self, images: np.ndarray, classes: Sequence[int] | np.ndarray | None = None
    ) -> ActivationMaps:
        """Maps of prepared images.

        Args:
            images: uint8 (B, H, W, 1) as `Preprocessing` makes them, or one (H, W, 1).
            classes: class indices (B,) or (B, K), or one for one image; what each image is
                read as if None.

        Returns:
            The maps; B is 1 for one image.

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
            maps = [self._by_gradient(images, features, column) for column in classes.T]
            return ActivationMaps(np.stack(maps, axis=1), classes, logits)
        return ActivationMaps(self._by_weights(features, classes), classes, logits)

    def _by_weights(self, features, classes) -> np.ndarray:
        weighted = features
        if hasattr(self._pooling, "weighted"):
            weighted = self._pooling.weighted(keras.ops.array(features))
            weighted = keras.ops.convert_to_numpy(weighted)
        kernel = keras.ops.convert_to_numpy(self._kernel.value).astype(np.float32)
        return np.einsum("bhwc,cbk->bkhw", weighted, kernel[:, classes], optimize=True)

    def _by_gradient(self, images, features, column) -> np.ndarray:
        images, column = keras.ops.array(images), keras.ops.array(column[:, None])

        def logit(tensor):
            logits = self._rest([images, tensor], training=False)
            return keras.ops.take_along_axis(logits, column, axis=1)

        return (input_gradient(logit, features) * features).sum(axis=-1)


def upsample(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarges maps bilinearly to the images they belong to (Melnyk et al. 2018, section 4.3).

    Args:
        maps: float (..., h, w).
        size: (H, W) of the images.

    Returns:
        float32 (..., H, W).
    """
    maps = np.asarray(maps, np.float32)
    flat = maps.reshape(-1, *maps.shape[-2:])
    enlarged = [cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR) for m in flat]
    return np.stack(enlarged).reshape(*maps.shape[:-2], *size)


def overlay(
    image: np.ndarray,
    cam: np.ndarray,
    strength: float = 0.6,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """Lays a map in colours over its image: blue for its least value, red for its greatest.

    Args:
        image: uint8 (H, W) or (H, W, 1), the prepared image.
        cam: float (h, w), enlarged to the image.
        strength: of the colours, 0 to 1.
        limits: values that are blue and red, to compare maps; the map's own if None. A map
            without differences is all blue.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    from matplotlib import colormaps

    height, width = image.shape[:2]
    image = np.asarray(image).reshape(height, width)
    enlarged = upsample(cam, (height, width))
    low, high = limits or (float(enlarged.min()), float(enlarged.max()))
    scaled = np.zeros_like(enlarged)
    if high > low:
        scaled = np.clip((enlarged - low) / (high - low), 0, 1)
    colours = 255 * colormaps["turbo"](scaled)[..., :3]
    mixed = strength * colours + (1 - strength) * image[..., None]
    return np.rint(mixed).astype(np.uint8)


def write_cams(
    predictors: Sequence[Predictor],
    images: Sequence[NamedImage],
    out: str | Path,
    *,
    top_k: int = 1,
    layer: str | None = None,
    classes: Sequence[Sequence[int]] | None = None,
) -> pd.DataFrame:
    """Writes the maps of several runs for the same images.

    `cam.png` has a row for each of the first 40 images and each rank, a column for each run and
    the image itself at the right; under each map stand character and softmax score.
    `cam.csv` says the same of all images in numbers, `maps.npz` holds RUN/maps, float32
    (images, top_k, h, w), and RUN/classes, int64 (images, top_k), and `overlays/` has each
    map over its prepared image. Maps by weights of a network that ends in a mean are h·w
    times those that its gradients give.

    Args:
        predictors: trained runs.
        images: what they read.
        out: folder to write to.
        top_k: the most probable classes to draw maps for.
        layer: as for `ActivationMapper`.
        classes: (images, top_k) class indices to map; the most probable ones if None.

    Returns:
        The table: a row for each image, run and rank.

    Raises:
        HccrError: nothing to do, more ranks than classes, or no such layer.
    """
    if not predictors or not images:
        raise HccrError("Maps need at least one run and one image.")
    fewest = min(len(p.charset) for p in predictors)
    if not 1 <= top_k <= fewest:
        raise HccrError(f"top_k is 1 to {fewest}, the number of classes; not {top_k}.")
    out = Path(out)
    (out / "overlays").mkdir(parents=True, exist_ok=True)
    names = distinct_names([predictor.workdir.path for predictor in predictors])
    rows: list[dict] = []
    arrays: dict[str, Any] = {}
    places = product(range(min(len(images), _SHOWN)), range(top_k))
    shown: dict[tuple[int, int], list] = {place: [] for place in places}
    for name, predictor in zip(names, predictors, strict=True):
        mapper = ActivationMapper(predictor.model, layer)
        found = []
        for begin in range(0, len(images), _BATCH):
            batch = images[begin : begin + _BATCH]
            prepared = predictor.preprocessing.apply_many([p.image for p in batch])
            logits = predictor.logits(prepared)
            mapped, _ = most_probable(logits, top_k)
            if classes is not None:
                mapped = np.asarray(classes[begin : begin + _BATCH], np.int64)
            found.append(mapper(prepared, mapped))
            probabilities = softmax(logits)
            for i, rank in np.ndindex(mapped.shape):
                label, number = int(mapped[i, rank]), begin + i
                character, probability = predictor.charset.char(label), probabilities[i, label]
                coloured = overlay(prepared[i], found[-1].maps[i, rank])
                file = f"{number + 1:03d}-{name}-{rank + 1}-{character_file_name(character)}.png"
                with atomic_write(out / "overlays" / file) as temporary:
                    temporary.write_bytes(encode_png(coloured))
                if (number, rank) in shown:
                    text = f"{name}: {character} {100 * probability:.1f} %"
                    shown[number, rank].append((coloured, text))
                rows.append(
                    {
                        "image": batch[i].name,
                        "run": name,
                        "rank": rank + 1,
                        "character": character,
                        "probability": round(float(probability), 6),
                        "layer": mapper.layer,
                        "method": "gradients" if mapper.through_gradients else "weights",
                        "overlay": f"overlays/{file}",
                    }
                )
        arrays[f"{name}/maps"] = np.concatenate([part.maps for part in found])
        arrays[f"{name}/classes"] = np.concatenate([part.classes for part in found])
    for (i, rank), row in shown.items():
        row.append((images[i].image if rank == 0 else None, images[i].label))
    tiles, texts = zip(*(tile for row in shown.values() for tile in row), strict=True)
    columns = len(predictors) + 1
    draw_sheet(tiles, texts, out / "cam.png", columns=columns, tile=144, text_size=20)
    with atomic_write(out / "maps.npz") as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)
    table = pd.DataFrame(rows)
    with atomic_write(out / "cam.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def character_file_name(character: str) -> str:
    """A character as part of a file name that every system takes: its code point.

    Example:
        >>> character_file_name("永")
        'U+6C38'
    """
    return f"U+{ord(character):04X}"


def _output(model: keras.Model, layer: str):
    try:
        return model.get_layer(layer).output
    except ValueError:
        names = ", ".join(
            one.name for one in model.layers if len(getattr(one.output, "shape", ())) == 4
        )
        raise HccrError(f"There's no layer {layer!r}; those with a map are: {names}.") from None


def _map_layer(model: keras.Model) -> str:
    layers = model.layers
    # What has no weights before it is the image, made larger or of three channels at most.
    first = next(i for i, layer in enumerate(layers) if layer.weights)
    last = [layer.name for layer in layers].index(FEATURE_MAP)
    for one in reversed(layers[first : last + 1]):
        shape = getattr(one.output, "shape", ())
        if len(shape) == 4 and min(shape[1:3]) >= _LEAST_SIDE:
            return one.name
    raise HccrError(
        f"No layer of {model.name} has a map of at least {_LEAST_SIDE}×{_LEAST_SIDE}; its "
        "images are too small for one. Train with larger ones, or, a network of "
        "keras.applications, with --model.enlarge 2."
    )


def _is_pooled_and_classified(model: keras.Model) -> bool:
    """Whether one pooling and a linear classifier are all that follows the feature map."""
    pooling, classifier = model.get_layer(POOLING), model.get_layer(MAIN_OUTPUT)
    known = hasattr(pooling, "weighted") or isinstance(pooling, keras.layers.GlobalAveragePooling2D)
    if not known or not isinstance(classifier, keras.layers.Dense):
        return False
    features = model.get_layer(FEATURE_MAP).output
    if pooling.input is not features:
        return False
    rest = keras.Model(pooling.output, classifier.output).layers
    return all(one is classifier or isinstance(one, _PASSIVE) for one in rest)
