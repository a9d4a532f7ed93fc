"""The one definition of how a picture becomes a network's input.

Training, validation, five-crop prediction and the recogniser all call
`Preprocessing.apply`, and the definition is stored with every run, so a model can't
be fed with pictures prepared in another way than those it was trained on.

The result is always uint8 (H, W, 1). Casting and scaling are the first layer of
every model, which keeps batches four times smaller on their way to the device.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

# Kriuk & Kriuk 2024, section 3.2: pictures are resized to 280 and cropped to 256.
CROP_RATIO = 280 / 256
WHITE = 255
_INK_BELOW = 240  # lighter pixels are paper: the noise of JPEG files reaches about 245


def crop_source_size(image_size: int) -> int:
    """Side to which a picture is resized before crops of `image_size` are cut.

    280 for 256 (Kriuk & Kriuk 2024, section 3.2); the same ratio, rounded to the
    nearest even number of pixels, for other sizes, so that the centre crop lies on
    whole pixels.

    Example:
        >>> crop_source_size(256), crop_source_size(64), crop_source_size(96)
        (280, 70, 106)
    """
    return 2 * int(image_size * CROP_RATIO / 2 + 0.5)


def five_crops(image: np.ndarray, image_size: int) -> np.ndarray:
    """Cuts the centre and the four corners (Kriuk & Kriuk 2024, section 3.2).

    Args:
        image: uint8 (S, S, 1) with S >= image_size.
        image_size: side of each crop in pixels.

    Returns:
        uint8 (5, image_size, image_size, 1): centre, top left, top right, bottom
        left, bottom right.
    """
    end = image.shape[0] - image_size
    if end < 0:
        raise ValueError(f"Can't cut {image_size} pixels from a picture of {image.shape[0]}.")
    corners = ((end // 2, end // 2), (0, 0), (0, end), (end, 0), (end, end))
    return np.stack([image[y : y + image_size, x : x + image_size] for y, x in corners])


@dataclass(frozen=True)
class Preprocessing:
    """Resize, blur and inversion of a grey picture.

    Attributes:
        image_size: side of the square result in pixels.
        fit: "stretch" fills the square in both directions (Kriuk & Kriuk 2024);
            "pad" keeps the aspect and centres the picture on white (Melnyk et al. 2018).
        crop_ink: whether to cut away the white margin before the resize. Sources differ:
            most of the Kaggle repack's training pictures carry a margin, its test
            pictures don't.
        border: white kept free on each side, as a fraction of the side; 4 / 96 is the
            4-pixel border of Melnyk et al. 2018.
        blur_kernel: side of the Gaussian kernel in pixels, odd; 0 for no blur.
        blur_sigma: its standard deviation in pixels.
        blur_size: side in pixels at which the blur happens; None blurs at the
            picture's final size, as the paper does at 256. With 256 here, a network
            at 64 pixels sees the same blur as the paper's network, made smaller: a
            7x7 kernel at 64 would be as wide as 28 pixels at 256.
        invert: True gives white ink on black.
    """

    image_size: int = 256
    fit: str = "stretch"
    crop_ink: bool = False
    border: float = 0.0
    blur_kernel: int = 0
    blur_sigma: float = 0.0
    blur_size: int | None = None
    invert: bool = False

    def __post_init__(self):
        if self.fit not in ("stretch", "pad"):
            raise ValueError(f'fit is "stretch" or "pad", not {self.fit!r}.')
        if self.image_size < 1:
            raise ValueError(f"image_size is at least 1, not {self.image_size}.")
        if not 0 <= self.border < 0.5:
            raise ValueError(f"border is a fraction in [0, 0.5), not {self.border}.")
        if self.blur_kernel < 0 or (self.blur_kernel and self.blur_kernel % 2 == 0):
            raise ValueError(f"blur_kernel is odd, or 0 for no blur; not {self.blur_kernel}.")
        if self.blur_kernel and self.blur_sigma <= 0:
            raise ValueError("A blur needs a blur_sigma above 0.")
        if self.blur_size is not None and self.blur_size < self.image_size:
            raise ValueError(f"blur_size {self.blur_size} is below image_size {self.image_size}.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 1) of the result."""
        return (self.image_size, self.image_size, 1)

    def apply(
        self, image: np.ndarray, size: int | None = None, affine: np.ndarray | None = None
    ) -> np.ndarray:
        """Prepares one picture: crop to ink, resize, affine map, blur, inversion, as asked for.

        Args:
            image: uint8 (H, W), background 255, any size.
            size: side of the result in pixels if not `image_size`: the side from
                which crops are cut. The blur size grows in proportion.
            affine: float (2, 2) or (2, 3), maps source to result offsets from the
                centre; the third column is a shift as a fraction of the side. Used by
                augmentation.

        Returns:
            uint8 (size, size, 1).

        Raises:
            ValueError: the picture isn't a non-empty uint8 (H, W).
        """
        import cv2

        if image.ndim != 2 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"A picture is a non-empty uint8 array (H, W); this one is {image.dtype} "
                f"{image.shape}."
            )
        size = size or self.image_size
        scale = size / self.image_size
        work = size
        if self.blur_kernel and self.blur_size:
            work = max(size, round(self.blur_size * scale))
        if self.crop_ink:
            image = _crop_to_ink(image)
        image = self._fit(image, work)
        if affine is not None:
            image = _warp(image, affine)
        if self.blur_kernel:
            image = cv2.GaussianBlur(
                image, (self.blur_kernel, self.blur_kernel), self.blur_sigma
            )
        if work != size:
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        if self.invert:
            image = WHITE - image
        return image[:, :, np.newaxis]

    def apply_five_crops(self, image: np.ndarray) -> np.ndarray:
        """uint8 (5, image_size, image_size, 1): resized, blurred, then cropped."""
        resized = self.apply(image, size=crop_source_size(self.image_size))
        return five_crops(resized, self.image_size)

    def without_blur(self) -> "Preprocessing":
        """The same without blur: what the released predictors do, by omission."""
        return replace(self, blur_kernel=0, blur_sigma=0.0, blur_size=None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "Preprocessing":
        """Reads `to_dict`'s result; names the keys it doesn't know."""
        unknown = set(config) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(
                f"This preprocessing has settings unknown here: {sorted(unknown)}. It was "
                "made by a newer version of hccr_tf; upgrade."
            )
        return cls(**config)

    def _fit(self, image: np.ndarray, size: int) -> np.ndarray:
        """Resizes to (size, size), with this definition's fit and border."""
        border = round(self.border * size)
        inner = max(1, size - 2 * border)
        height = width = inner
        if self.fit == "pad":
            longest = max(image.shape)
            height, width = (max(1, round(side * inner / longest)) for side in image.shape)
        resized = _resize(image, height, width)
        if (height, width) == (size, size):
            return resized
        square = np.full((size, size), WHITE, np.uint8)
        top, left = (size - height) // 2, (size - width) // 2
        square[top : top + height, left : left + width] = resized
        return square


def _crop_to_ink(image: np.ndarray) -> np.ndarray:
    import cv2

    ink = cv2.threshold(image, _INK_BELOW, WHITE, cv2.THRESH_BINARY_INV)[1]
    left, top, width, height = cv2.boundingRect(ink)
    if not width:  # a blank picture stays as it is
        return image
    return image[top : top + height, left : left + width]


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    import cv2

    # Averaging when a picture shrinks keeps thin strokes; bilinear would skip pixels.
    shrinks = height < image.shape[0] or width < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def _warp(image: np.ndarray, affine: np.ndarray) -> np.ndarray:
    import cv2

    size = image.shape[0]
    centre = (size - 1) / 2
    matrix = np.zeros((2, 3))
    matrix[:, :2] = affine[:, :2]
    shift = affine[:, 2] * size if affine.shape[1] == 3 else 0.0
    matrix[:, 2] = centre + shift - matrix[:, :2] @ (centre, centre)
    return cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=WHITE
    )
