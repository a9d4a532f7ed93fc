"""The one definition of how an image becomes a network's input.

Training, validation, evaluation and the recogniser all call `Preprocessing.apply`, and the
definition is stored with every run, so a model can't be fed with images prepared in another way
than those it was trained on, nor read them in one way here and in another there.

The result is always uint8 (H, W, 1). Casting and scaling are the first layer of
every model, which keeps batches four times smaller on their way to the device.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from hccr_tf.images.cleaning import WHITE
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.schema import check
from hccr_tf.utils.settings import from_plain

# Kriuk & Kriuk 2024, section 3.2: images are resized to 280 and cropped to 256.
CROP_RATIO = 280 / 256
VIEWS = {"none": 1, "five_crops": 5, "stretches": 2}
"""Test-time augmentations, and how many views of an image each has."""
# Widths and heights: people's proportions differ more than those of drawn images. The image as it
# is beside them costs half as much again and reads no better.
_STRETCHES = ((1.1, 1.0), (1.0, 1.1))
_INK_BELOW = 240  # lighter pixels are paper: the noise of JPEG files reaches about 245
_UINT8 = np.dtype(np.uint8).num
_MOST_PIXELS = 4096  # a side of what a network sees
_GROUP_WIDTH = 2048  # pixels; images side by side that are blurred together


def crop_source_size(image_size: int) -> int:
    """Side to which an image is resized before crops of `image_size` are cut.

    280 for 256 (Kriuk & Kriuk 2024, section 3.2); the same ratio, rounded to the
    nearest even number of pixels, for other sizes, so that the centre crop lies on
    whole pixels.

    Example:
        >>> crop_source_size(256), crop_source_size(64), crop_source_size(96)
        (280, 70, 106)
    """
    return 2 * int(image_size * CROP_RATIO / 2 + 0.5)


def five_crops(images: np.ndarray, image_size: int) -> np.ndarray:
    """Cuts the centre and the four corners (Kriuk & Kriuk 2024, section 3.2).

    Args:
        images: uint8 (..., S, S, 1) with S >= image_size.
        image_size: side of each crop in pixels.

    Returns:
        uint8 (..., 5, image_size, image_size, 1): centre, top left, top right, bottom left,
        bottom right.
    """
    end = images.shape[-2] - image_size
    if end < 0:
        raise HccrError(f"Can't cut {image_size} pixels from an image of {images.shape[-2]}.")
    corners = (end // 2, end // 2), (0, 0), (0, end), (end, 0), (end, end)
    crops = [images[..., y : y + image_size, x : x + image_size, :] for y, x in corners]
    return np.stack(crops, axis=-4)


@dataclass(frozen=True)
class Preprocessing:
    """Resize, blur and inversion of a grey image.

    Attributes:
        image_size: side of the square result in pixels.
        fit: "stretch" fills the square in both directions (Kriuk & Kriuk 2024);
            "pad" keeps the aspect and centres the image on white (Melnyk et al. 2018).
        crop_ink: whether to cut away the white margin before the resize. Sources differ:
            most of the Kaggle repack's training images carry a margin, its test
            images don't.
        border: white kept free on each side, as a fraction of the side; 4 / 96 is the
            4-pixel border of Melnyk et al. 2018.
        blur_kernel: side of the Gaussian kernel in pixels, odd; 0 for no blur.
        blur_sigma: its standard deviation in pixels.
        blur_size: side in pixels at which the blur happens; None blurs at the
            image's final size, as the paper does at 256. With 256 here, a network
            at 64 pixels sees the same blur as the paper's network, made smaller: a
            7x7 kernel at 64 would be as wide as 28 pixels at 256.
        invert: True gives white ink on black.
        tta: test-time augmentation: views of an image whose logits' mean is what's read. "none" for
            the image alone, as in validation; "five_crops" for its centre and corners (Kriuk &
            Kriuk 2024, section 3.2); "stretches" for the image a tenth
            wider and a tenth higher.
    """

    image_size: int = 256
    fit: str = "stretch"
    crop_ink: bool = False
    border: float = 0.0
    blur_kernel: int = 0
    blur_sigma: float = 0.0
    blur_size: int | None = None
    invert: bool = False
    tta: str = "none"

    def __post_init__(self):
        if self.fit not in ("stretch", "pad"):
            raise HccrError(f'fit is "stretch" or "pad", not {self.fit!r}.')
        if self.tta not in VIEWS:
            raise HccrError(f"tta is one of {', '.join(VIEWS)}; not {self.tta!r}.")
        for name in ("image_size", "blur_size"):
            if (side := getattr(self, name)) is not None and not 1 <= side <= _MOST_PIXELS:
                raise HccrError(f"{name} is from 1 to {_MOST_PIXELS}, not {side}.")
        if not 0 <= self.border < 0.5:
            raise HccrError(f"border is a fraction in [0, 0.5), not {self.border}.")
        if not 0 <= self.blur_kernel < _MOST_PIXELS or (
            self.blur_kernel and not self.blur_kernel % 2
        ):
            raise HccrError(
                f"blur_kernel is odd and below {_MOST_PIXELS}, or 0 for no blur; not "
                f"{self.blur_kernel}."
            )
        if self.blur_kernel and not 0 < self.blur_sigma < _MOST_PIXELS:
            raise HccrError(f"A blur needs a blur_sigma above 0, not {self.blur_sigma}.")
        if self.blur_size is not None and self.blur_size < self.image_size:
            raise HccrError(f"blur_size {self.blur_size} is below image_size {self.image_size}.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Returns the result's (H, W, 1)."""
        return (self.image_size, self.image_size, 1)

    def apply(
        self, image: np.ndarray, size: int | None = None, affine: np.ndarray | None = None
    ) -> np.ndarray:
        """Prepares one image, uint8 (H, W), as `apply_many` does; returns uint8 (size, size, 1)."""
        return self.apply_many([image], size, None if affine is None else [affine])[0]

    def apply_many(
        self,
        images: Sequence[np.ndarray],
        size: int | None = None,
        affine: Sequence[np.ndarray] | None = None,
    ) -> np.ndarray:
        """Prepares images: crop to ink, resize, affine map, blur, inversion, as asked for.

        Args:
            images: n images, each uint8 (H, W) of any size, background 255.
            size: side of the results in pixels if not `image_size`: the side from which
                crops are cut. The blur size grows in proportion.
            affine: n maps for augmentation, each float (2, 2) or (2, 3), from source to
                result offsets from the centre; the third column is a shift as a fraction
                of the side.

        Returns:
            uint8 (n, size, size, 1).

        Raises:
            HccrError: an image isn't a non-empty uint8 (H, W), or the maps are too few or many.
        """
        size = size or self.image_size
        if affine is not None and len(affine) != len(images):
            raise HccrError(f"{len(affine)} maps don't fit {len(images)} images.")
        for image in images:
            # Three attributes of every image of every batch: compared in the quickest way.
            if image.ndim != 2 or image.dtype.num != _UINT8 or not image.size:
                raise HccrError(
                    f"An image is a non-empty uint8 array (H, W); this one is {image.dtype} "
                    f"{image.shape}."
                )
        prepared = np.empty((len(images), size, size), np.uint8)
        _preparation(self, size).run(images, affine, prepared)
        return prepared[..., None]

    def apply_views(self, images: Sequence[np.ndarray], tta: str | None = None) -> np.ndarray:
        """Prepares the views of n images that a test-time augmentation has; `self.tta` if None.

        Returns:
            uint8 (n * `VIEWS[tta]`, image_size, image_size, 1), an image's views one after another.
        """
        tta = tta or self.tta
        if tta == "five_crops":
            return self._five_crops(images)
        if tta == "stretches":
            import cv2

            images = [
                cv2.resize(image, (round(image.shape[1] * x), round(image.shape[0] * y)))
                for image in images
                for x, y in _STRETCHES
            ]
        return self.apply_many(images)

    def _five_crops(self, images: Sequence[np.ndarray]) -> np.ndarray:
        crops = np.empty((len(images), 5, *self.image_shape), np.uint8)
        source = crop_source_size(self.image_size)
        # A few at a time, so that they're cut while they lie in the processor's cache.
        for start in range(0, len(images), 8):
            resized = self.apply_many(images[start : start + 8], size=source)
            crops[start : start + 8] = five_crops(resized, self.image_size)
        return crops.reshape(-1, *self.image_shape)

    def without_blur(self) -> "Preprocessing":
        """Returns the same without blur: what the released predictors do, by omission."""
        return replace(self, blur_kernel=0, blur_sigma=0.0, blur_size=None)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: Any, source: Any = "preprocessing") -> "Preprocessing":
        """Reads `to_dict`'s result; HccrError names the file, `source`, as `from_plain` does."""
        check(config, dict[str, Any], source)
        # Runs of before had none of their own, and the recogniser stretched what isn't stretched.
        tta = "stretches" if config.get("fit") == "pad" else "none"
        return from_plain(cls, {"tta": tta, **config}, source)


class _Preparation:
    """A `Preprocessing` at one size, with everything resolved that isn't an image's own.

    It keeps no images, so threads share it.
    """

    def __init__(self, settings: Preprocessing, size: int):
        self.settings = settings
        self.size = size
        self.work = size  # the side at which map and blur happen
        if settings.blur_kernel and settings.blur_size:
            self.work = max(size, round(settings.blur_size * size / settings.image_size))
        self.inner = max(1, self.work - 2 * round(settings.border * self.work))
        self.margin = settings.blur_kernel // 2
        self.group = max(1, _GROUP_WIDTH // self.work)  # images that are blurred together
        # OpenCV blurs the first and last pixels of each row, and what doesn't fill a vector,
        # one by one. Of a 7x7 blur of 256 pixels that's a third of the time, of a 3x3 blur
        # of 96 pixels two thirds; a row of several images has it once. The copy out of the
        # strip costs more than that where the kernel is small and the image large.
        self.in_strips = settings.blur_kernel >= 7 or self.work <= 192
        if self.margin >= self.work:  # its mirror image would be mirrored again
            self.in_strips = False

    def run(self, images, affine, out: np.ndarray) -> None:
        """Writes the images into `out`, uint8 (n, size, size)."""
        if not self.settings.blur_kernel:
            self._place(images, affine, out)
        elif len(images):
            self._blur(images, affine, out)
        if self.settings.invert:
            np.bitwise_not(out, out)

    def _place(self, images, affine, places) -> None:
        """Crops, resizes and maps images into as many of the (work, work) `places`."""
        import cv2  # here, as every command reads recipes and few prepare images

        work, pad = self.work, self.settings.fit == "pad"
        fitted = np.empty((work, work), np.uint8) if affine is not None else None
        height = width = self.inner
        for i, (image, place) in enumerate(zip(images, places, strict=False)):
            if self.settings.crop_ink:
                image = crop_to_ink(image)
            target = square = place if fitted is None else fitted
            rows, columns = image.shape
            if pad:
                longest = max(rows, columns)
                height = max(1, round(rows * self.inner / longest))
                width = max(1, round(columns * self.inner / longest))
            if height != work or width != work:
                square.fill(WHITE)
                top, left = (work - height) // 2, (work - width) // 2
                target = square[top : top + height, left : left + width]
            # Averaging when an image shrinks keeps thin strokes; bilinear would skip pixels.
            shrinks = height < rows or width < columns
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            cv2.resize(image, (width, height), target, 0, 0, method)
            if fitted is not None:
                _warp(fitted, affine[i], place)

    def _blur(self, images, affine, out) -> None:
        """Places, blurs and, from a blur size, shrinks a few images at a time."""
        import cv2

        kernel, sigma = (self.settings.blur_kernel,) * 2, self.settings.blur_sigma
        work, margin, group = self.work, self.margin, min(self.group, len(images))
        shrinks = work != self.size
        in_strips = self.in_strips and group > 1
        # Images side by side, each between the mirror images that the blur takes beyond an
        # image's edge; above and below OpenCV takes them by itself.
        end = margin + work
        strip = np.empty(
            (work, group, end + margin) if in_strips else (group, work, work), np.uint8
        )
        blurred_strip = np.empty_like(strip)
        placed, blurred = strip, blurred_strip
        if in_strips:
            placed, blurred = (s[:, :, margin:end].swapaxes(0, 1) for s in (strip, blurred_strip))
        for start in range(0, len(images), group):
            chunk = images[start : start + group]
            results = out[start : start + group]
            maps = None if affine is None else affine[start : start + group]
            self._place(chunk, maps, placed)
            if in_strips:
                strip[:, :, :margin] = strip[:, :, 2 * margin : margin : -1]
                strip[:, :, end:] = strip[:, :, end - 2 : end - 2 - margin : -1]
                rows = strip.reshape(work, -1), blurred_strip.reshape(work, -1)
                cv2.GaussianBlur(rows[0], kernel, sigma, rows[1])
                if not shrinks:
                    results[...] = blurred[: len(chunk)]
            else:
                targets = blurred if shrinks else results
                for place, target, _ in zip(placed, targets, chunk, strict=False):
                    cv2.GaussianBlur(place, kernel, sigma, target)
            if shrinks:
                side = (self.size, self.size)
                for square, result in zip(blurred, results, strict=False):
                    cv2.resize(square, side, result, 0, 0, cv2.INTER_AREA)


@lru_cache(maxsize=64)
def _preparation(settings: Preprocessing, size: int) -> _Preparation:
    return _Preparation(settings, size)


def crop_to_ink(image: np.ndarray) -> np.ndarray:
    """Cuts off the margin around what isn't as light as paper; uint8 (H, W), (h, w)."""
    import cv2

    ink = cv2.threshold(image, _INK_BELOW, WHITE, cv2.THRESH_BINARY_INV)[1]
    left, top, width, height = cv2.boundingRect(ink)
    if not width:  # a blank image stays as it is
        return image
    return image[top : top + height, left : left + width]


def _warp(image: np.ndarray, affine: np.ndarray, out: np.ndarray) -> None:
    import cv2

    size = image.shape[0]
    centre = (size - 1) / 2
    shift = affine[:, 2] * size if affine.shape[1] == 3 else 0.0
    linear = affine[:, :2]
    matrix = np.column_stack([linear, centre + shift - linear @ (centre, centre)])
    cv2.warpAffine(image, matrix, (size, size), out, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, WHITE)
