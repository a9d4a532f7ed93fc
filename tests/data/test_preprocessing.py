import dataclasses
import itertools
import json

import cv2
import numpy as np
import pytest

from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.preprocessing import Preprocessing, crop_source_size, five_crops

PAPER_BLURS = [(3, 20.0), (5, 50.0), (7, 50.0)]


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def strokes(height, width):
    """Black strokes on white, up to the borders."""
    image = np.full((height, width), 255, np.uint8)
    cv2.line(image, (0, height // 3), (width - 1, height // 4), 0, 3)
    cv2.line(image, (width // 2, 0), (width // 3, height - 1), 40, 2)
    return image


def numpy_blur(image, kernel, sigma):
    """A Gaussian blur in whole grey levels; borders mirror, the outermost pixel once."""
    reach = kernel // 2
    weights = np.exp(-np.square(np.arange(-reach, reach + 1)) / (2 * sigma**2))
    weights /= weights.sum()
    padded = np.pad(image.astype(np.float64), reach, mode="reflect")
    height, width = image.shape
    rows = sum(w * padded[i : i + height] for i, w in enumerate(weights))
    return np.rint(sum(w * rows[:, i : i + width] for i, w in enumerate(weights)))


# === Blur ===


@pytest.mark.parametrize(("kernel", "sigma"), PAPER_BLURS)
def test_blur_is_a_gaussian_with_reflected_borders(kernel, sigma):
    preprocessing = Preprocessing(64, blur_kernel=kernel, blur_sigma=sigma)
    for image in (noise(64, 64), strokes(64, 64)):
        got = preprocessing.apply(image)[..., 0].astype(np.float64)
        assert abs(got - numpy_blur(image, kernel, sigma)).max() <= 1


def test_without_blur_changes_nothing_else():
    preprocessing = Preprocessing(
        64, "pad", True, 0.05, blur_kernel=7, blur_sigma=50.0, blur_size=256, invert=True
    )
    assert preprocessing.without_blur() == Preprocessing(64, "pad", True, 0.05, invert=True)


# === Size ===


def test_result_is_a_new_uint8_square():
    image = strokes(90, 50)
    image.flags.writeable = False
    got = Preprocessing(32).apply(image)
    assert (got.shape, got.dtype) == ((32, 32, 1), np.uint8)
    assert Preprocessing(32).image_shape == (32, 32, 1)
    same_size = noise(32, 32)
    np.testing.assert_array_equal(Preprocessing(32).apply(same_size)[..., 0], same_size)


def test_shrinking_averages():
    image = noise(64, 64)
    want = image.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    assert abs(Preprocessing(16).apply(image)[..., 0] - want).max() <= 0.51


@pytest.mark.parametrize(
    ("settings", "shape", "rows", "columns"),
    [
        ({"image_size": 64, "fit": "pad"}, (40, 20), (0, 64), (16, 48)),
        ({"image_size": 64, "fit": "pad"}, (20, 40), (16, 48), (0, 64)),
        # 96 pixels with a border of 4 leave 88 (Melnyk et al. 2018).
        ({"image_size": 96, "fit": "pad", "border": 4 / 96}, (40, 20), (4, 92), (26, 70)),
        ({"image_size": 100, "border": 0.1}, (40, 20), (10, 90), (10, 90)),
    ],
)
def test_pad_and_border_leave_white_around(settings, shape, rows, columns):
    preprocessing = Preprocessing(**settings)
    want = np.full(preprocessing.image_shape, 255, np.uint8)
    want[slice(*rows), slice(*columns)] = 0
    np.testing.assert_array_equal(preprocessing.apply(np.zeros(shape, np.uint8)), want)


def test_crop_ink_cuts_the_margin_only():
    ink = noise(20, 30) // 2
    image = np.full((60, 80), 255, np.uint8)
    image[7:27, 40:70] = ink
    image[50, 3] = 241  # The paper's own noise.
    cropped = Preprocessing(48, crop_ink=True)
    np.testing.assert_array_equal(cropped.apply(image), Preprocessing(48).apply(ink))
    assert (cropped.apply(image) != Preprocessing(48).apply(image)).any()
    image[50, 3] = 240
    assert (cropped.apply(image) != Preprocessing(48).apply(ink)).any()
    blank = np.full((9, 9), 255, np.uint8)
    assert (cropped.apply(blank) == 255).all()


# === Affine maps ===


def test_a_shift_is_a_fraction_of_the_side_over_white():
    image = noise(32, 32)
    affine = np.array([[1, 0, 0.25], [0, 1, -0.125]])
    got = Preprocessing(32).apply(image, affine=affine)[..., 0]
    np.testing.assert_array_equal(got[:28, 8:], image[4:, :24])
    assert (got[28:] == 255).all() and (got[:, :8] == 255).all()


def test_a_map_goes_from_source_to_result_about_the_centre():
    image = np.full((32, 32), 255, np.uint8)
    image[12:20, 12:20] = 0
    got = Preprocessing(32).apply(image, affine=2 * np.eye(2))[..., 0]
    assert (got[9:23, 9:23] == 0).all()
    assert (got[:7] == 255).all() and (got[25:] == 255).all()
    np.testing.assert_array_equal(got, got[::-1, ::-1])


# === Many at once ===


def plainly(settings, image, size, affine):
    """The definition, one OpenCV call after another."""
    work = size
    if settings.blur_kernel and settings.blur_size:
        work = max(size, round(settings.blur_size * size / settings.image_size))
    if settings.crop_ink:
        rows, columns = (np.flatnonzero((image <= 240).any(axis)) for axis in (1, 0))
        if len(rows):
            image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inner = max(1, work - 2 * round(settings.border * work))
    height = width = inner
    if settings.fit == "pad":
        height, width = (max(1, round(s * inner / max(image.shape))) for s in image.shape)
    shrinks = height < image.shape[0] or width < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    square = np.full((work, work), 255, np.uint8)
    top, left = (work - height) // 2, (work - width) // 2
    square[top : top + height, left : left + width] = cv2.resize(
        image, (width, height), interpolation=method
    )
    if affine is not None:
        centre = (work - 1) / 2
        shift = centre + affine[:, 2] * work - affine[:, :2] @ (centre, centre)
        matrix = np.column_stack([affine[:, :2], shift])
        square = cv2.warpAffine(square, matrix, (work, work), borderValue=255)
    if settings.blur_kernel:
        kernel = (settings.blur_kernel,) * 2
        square = cv2.GaussianBlur(square, kernel, settings.blur_sigma)
    if work != size:
        square = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    return 255 - square if settings.invert else square


BLURS = [
    {},
    {"blur_kernel": 1, "blur_sigma": 2.0},
    {"blur_kernel": 3, "blur_sigma": 20.0},
    {"blur_kernel": 7, "blur_sigma": 50.0},
    {"blur_kernel": 9, "blur_sigma": 1.5},
    {"blur_kernel": 61, "blur_sigma": 9.0},  # wider than some images
    {"blur_kernel": 7, "blur_sigma": 50.0, "blur_size": 256},
    {"blur_kernel": 3, "blur_sigma": 20.0, "blur_size": 100},
    {"blur_size": 256},  # blurs nothing
]


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("size", [24, 96])
def test_many_images_are_prepared_bit_for_bit_as_the_definition_says(size, blur):
    shapes = [(1, 1), (1, 90), (300, 200), (96, 96), (30, 200), (40, 33), (61, 200)] * 3
    images = [(noise if i % 2 else strokes)(*s, *[i] * (i % 2)) for i, s in enumerate(shapes)]
    maps = RandomAffine(0.1, 0.05).draw(1, 2, 3, len(images))
    white = ((0.0, False), (0.05, True))
    choices = itertools.product(("stretch", "pad"), (False, True), white, (None, maps))
    for fit, crop_ink, (border, invert), affine in choices:
        settings = Preprocessing(size, fit, crop_ink, border, invert=invert, **blur)
        for side in (size, crop_source_size(size)):
            want = [
                plainly(settings, image, side, None if affine is None else affine[i])
                for i, image in enumerate(images)
            ]
            many = settings.apply_many(images, size=side, affine=affine)
            np.testing.assert_array_equal(many[..., 0], want)
            one = settings.apply(images[2], side, None if affine is None else affine[2])
            np.testing.assert_array_equal(one[..., 0], want[2])


@pytest.mark.parametrize(("kernel", "sigma"), PAPER_BLURS)
def test_at_the_papers_size_too(kernel, sigma):
    settings = Preprocessing(256, blur_kernel=kernel, blur_sigma=sigma)
    images = [strokes(60 + 5 * i, 50 + 3 * i) for i in range(11)]
    want = [plainly(settings, image, 256, None) for image in images]
    np.testing.assert_array_equal(settings.apply_many(images)[..., 0], want)


def test_no_images_are_prepared_too_and_maps_of_another_number_are_refused():
    for settings in (Preprocessing(32), Preprocessing(32, blur_kernel=3, blur_sigma=1.0)):
        assert settings.apply_many([]).shape == (0, 32, 32, 1)
    with pytest.raises(ValueError, match="3 maps don't fit 1 images"):
        Preprocessing(32).apply_many([noise(9, 9)], affine=np.zeros((3, 2, 3)))


@pytest.mark.parametrize("blur", BLURS)
def test_five_crops_of_many_images(blur):
    settings = Preprocessing(24, crop_ink=True, border=0.05, **blur)
    images = [strokes(20 + i, 40 - i) for i in range(11)]
    # Resized and blurred before it's cut.
    whole = [plainly(settings, image, crop_source_size(24), None)[..., None] for image in images]
    want = [five_crops(image, 24) for image in whole]
    crops = settings.apply_views(images, "five_crops")
    np.testing.assert_array_equal(crops, np.concatenate(want))


def test_views_are_the_runs_own_and_stored_with_it():
    images = [strokes(20 + i, 40 - i) for i in range(3)]
    for tta, views in {"none": 1, "five_crops": 5, "stretches": 2}.items():
        settings = Preprocessing.from_dict(Preprocessing(24, fit="pad", tta=tta).to_dict())
        assert len(settings.apply_views(images)) == 3 * views
        np.testing.assert_array_equal(
            settings.apply_views(images), Preprocessing(24, fit="pad").apply_views(images, tta)
        )
    with pytest.raises(ValueError, match="tta is one of none, five_crops, stretches; not 'ten'"):
        Preprocessing(24, tta="ten")
    # Runs of before it was stored are read as they were then.
    for fit, tta in (("pad", "stretches"), ("stretch", "none")):
        config = {k: v for k, v in Preprocessing(24, fit=fit).to_dict().items() if k != "tta"}
        assert Preprocessing.from_dict(config).tta == tta


# === Crops ===


def test_side_that_crops_are_cut_from_lets_the_centre_lie_on_whole_pixels():
    sides = {256: 280, 64: 70, 96: 106, 128: 140, 48: 52, 86: 94}
    assert {size: crop_source_size(size) for size in sides} == sides
    for size in range(2, 400, 2):
        source = crop_source_size(size)
        assert source % 2 == 0 and source >= size
        assert abs(source - size * 280 / 256) <= 1


def test_five_crops_are_the_centre_and_the_corners():
    image = noise(280, 280)[..., None]
    crops = five_crops(image, 256)
    assert (crops.shape, crops.dtype) == ((5, 256, 256, 1), np.uint8)
    for crop, (top, left) in zip(
        crops, [(12, 12), (0, 0), (0, 24), (24, 0), (24, 24)], strict=True
    ):
        np.testing.assert_array_equal(crop, image[top : top + 256, left : left + 256])
    with pytest.raises(ValueError, match="Can't cut 256 pixels from an image of 255"):
        five_crops(noise(255, 255)[..., None], 256)


# === Settings ===


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fit": "squash"}, 'fit is "stretch" or "pad", not \'squash\''),
        ({"image_size": 0}, "image_size is from 1 to 4096"),
        ({"border": 0.5}, "border is a fraction"),
        ({"border": -0.1}, "border is a fraction"),
        ({"blur_kernel": 4, "blur_sigma": 1.0}, "blur_kernel is odd"),
        ({"blur_kernel": -3, "blur_sigma": 1.0}, "blur_kernel is odd"),
        ({"blur_kernel": 3}, "blur_sigma above 0"),
        ({"blur_size": 255}, "blur_size 255 is below image_size 256"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**settings)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((4, 4), np.float32),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 4), bool),
    ],
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match=r"non-empty uint8 array \(H, W\); this one is"):
        Preprocessing(32).apply(image)


def test_round_trip_through_json():
    preprocessing = Preprocessing(96, "pad", True, 4 / 96, 7, 50.0, 256, True, "stretches")
    fields = dataclasses.fields(preprocessing)
    defaults = [f.name for f in fields if getattr(preprocessing, f.name) == f.default]
    assert not defaults  # So that every setting is tried.
    config = json.loads(json.dumps(preprocessing.to_dict()))
    assert Preprocessing.from_dict(config) == preprocessing


def test_settings_of_a_newer_version_are_named():
    config = {**Preprocessing().to_dict(), "sharpen": 1, "denoise": 2}
    with pytest.raises(ValueError, match=r"unknown here: \['denoise', 'sharpen'\]"):
        Preprocessing.from_dict(config)


@pytest.mark.parametrize("shape", [(120, 90), (64, 110), (40, 30), (97, 97)])
def test_melnyks_input_is_that_of_the_released_code(shape):
    """A square of white, Pillow's bilinear resize to 88, a border of 4, inverted."""
    from PIL import Image

    from hccr_tf import get_recipe

    image = np.full(shape, 255, np.uint8)
    cv2.line(image, (5, 5), (shape[1] - 6, shape[0] - 9), 30, 5)
    cv2.ellipse(image, (shape[1] // 2, shape[0] // 2), (12, 9), 20, 0, 300, 90, 3)
    pad = abs(shape[0] - shape[1]) // 2
    pads = ((pad, pad), (0, 0)) if shape[0] < shape[1] else ((0, 0), (pad, pad))
    square = Image.fromarray(np.pad(image, pads, constant_values=255))
    resized = np.asarray(square.resize((88, 88), Image.Resampling.BILINEAR))
    theirs = 255 - np.pad(resized, 4, constant_values=255).astype(int)
    ours = get_recipe("melnyk_c").preprocessing.apply(image)[..., 0].astype(int)
    assert ours.shape == (96, 96)
    assert not ours[:4].any() and not ours[:, -4:].any()
    # Pillow averages with a triangle where an image shrinks, OpenCV with a box.
    difference = np.abs(ours - theirs)
    assert difference.mean() < 3
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.96
