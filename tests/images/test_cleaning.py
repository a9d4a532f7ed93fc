"""Cleaning of scans and photographs, on images whose ink is known."""

import io
import os

import cv2
import numpy as np
import photographs as made
import pytest
from PIL import Image

from hccr_tf.cli.main import main
from hccr_tf.data.loading.preprocessing import crop_to_ink
from hccr_tf.data.store.store import Store
from hccr_tf.images.cleaning import ImageError, candidates, clean
from hccr_tf.images.decoding import decode, find_images, read_clean
from hccr_tf.images.layout import count_characters
from hccr_tf.images.parts import alternatives

NUMERALS = "零一五万亿百八"
VARIANTS = {
    "plain": lambda g: g,
    "white ink on black": lambda g: 255 - g,
    "blue ink on yellow paper": lambda g: made.coloured(g, (240, 220, 150), (40, 60, 160)),
    "red ink": lambda g: made.coloured(g, (255, 255, 255), (200, 30, 30)),
    "chalk": lambda g: made.coloured(g, (30, 80, 50), (240, 240, 230)),
    "light falling off": made.unevenly_lit,
    "dark corner, coloured": lambda g: made.unevenly_lit(
        made.coloured(g, (230, 215, 190), (50, 40, 90)), 0.3
    ),
    "chalk, uneven light": lambda g: made.unevenly_lit(
        made.coloured(g, (60, 90, 70), (250, 250, 240)), 0.5
    ),
    "red practice grid": made.gridded,
    "wide practice grid": lambda g: made.gridded(g, thickness=3),
    "wide black grid": lambda g: made.gridded(g, (20, 20, 20), 3),
    "grey practice grid": lambda g: made.gridded(g, (150, 150, 150)),
    "grid in uneven light": lambda g: made.unevenly_lit(made.gridded(g, (190, 90, 90)), 0.5),
    "black bars": made.barred,
    "black bars, uneven light": lambda g: made.barred(made.unevenly_lit(g, 0.6)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_ink_is_found_whatever_it_is_on(variant):
    for character in NUMERALS:
        truth = made.on_paper(character)
        cleaned = clean(VARIANTS[variant](truth))
        assert cleaned.dtype == np.uint8 and cleaned.max() == 255
        assert made.overlap(cleaned, truth) > 0.8, character
        assert count_characters(cleaned).characters == 1, character


@pytest.mark.parametrize("thickness", [1, 2, 3, 4])
def test_strokes_that_cross_a_grid_stay_whole(thickness):
    for seed, character in enumerate("七十千亿四", 4):
        truth = made.on_paper(character, 40, seed)
        parts = [
            cv2.connectedComponents((image < 128).astype(np.uint8))[0]
            for image in (truth, clean(made.gridded(truth, thickness=thickness)))
        ]
        assert parts[0] == parts[1], character


SHEETS = {
    "a soft shadow": lambda i: made.shadowed(i, 0.03),
    "a hard shadow through it": lambda i: made.shadowed(i, 0.002),
    "a table around": lambda i: made.on_table(i),
    "a dark table, ruling": lambda i: made.on_table(made.ruled(i), (50, 50, 60), seed=2),
    "a lighter table": lambda i: made.on_table(i // 2 + 20, (235, 225, 200), seed=3),
    "squared paper in a shadow": lambda i: made.shadowed(made.ruled(i, down=True), 0.05, 0.6),
    "grey ruling": lambda i: made.ruled(i, (185, 185, 185), gap=60),
}
PENS = {"yellow": (245, 215, 60), "light blue": (150, 205, 245), "pink": (245, 150, 200)}


@pytest.mark.parametrize("kind", SHEETS)
def test_sheets_as_telephones_see_them(kind):
    for i, character in enumerate("五亿百"):
        truth = made.written(character, seed=i + 5)
        image = made.sheet(truth, place=(0.3 + 0.1 * i, 0.5))
        cleaned = clean(made.unevenly_lit(SHEETS[kind](image), 0.75, seed=i))
        assert made.overlap(cleaned, truth) > 0.6, character


@pytest.mark.parametrize("pen", PENS)
def test_pale_ink_is_found_in_uneven_light(pen):
    for i, character in enumerate("零八万"):
        truth = made.written(character, seed=i + 9)
        image = made.coloured(made.on_paper(character, seed=i + 9), (255, 255, 255), PENS[pen])
        cleaned = clean(made.unevenly_lit(image, 0.8, seed=i))
        assert made.overlap(cleaned, truth) > 0.7, character


def test_a_small_character_far_from_the_middle():
    truth = made.written("五", seed=4)
    image = made.sheet(truth, side=1600, place=(0.05, 0.93), size=0.06)
    assert made.overlap(clean(made.unevenly_lit(image, 0.6)), truth) > 0.6


KINDS = {
    "a circle": lambda i: made.boxed(i, "circle"),
    "a red circle": lambda i: made.boxed(i, "circle", (205, 40, 40)),
    "a rounded box": lambda i: made.boxed(i, "rounded", (90, 90, 90)),
    "a box in a photograph": lambda i: made.unevenly_lit(made.boxed(i, "square"), 0.8),
    "a toolbar": lambda i: _with_toolbar(i),
    "a neighbour": lambda i: _with_neighbour(i),
}


def _with_toolbar(image):
    image = image.copy()
    image[:14] = 225
    for left in range(20, 300, 30):
        image[3:11, left : left + 8] = (200, 60, 60)
    return image


def _with_neighbour(image):
    piece = made.coloured(made.written("百", seed=3), (240, 235, 225))[:, :30]
    image = image.copy()
    image[300 : 300 + len(piece), -30:] = piece
    return image


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_not_belong_to_it_is_taken_away_by_a_candidate(kind):
    for i, character in enumerate("六亿零"):
        truth = made.written(character, seed=i + 3)
        image = KINDS[kind](made.sheet(truth, size=0.3))
        best = max(made.overlap(one, truth) for one in candidates(image))
        assert best > 0.7, character


def test_an_image_that_is_cut_to_its_ink_has_no_other_candidate():
    for character in NUMERALS:
        assert len(list(candidates(crop_to_ink(made.written(character))))) == 1


def test_an_image_cut_to_the_ink_keeps_its_polarity():
    for character in NUMERALS:
        tight = made.written(character)
        for image in (tight, 255 - tight):
            assert made.overlap(clean(image), tight) > 0.97, character


def test_clean_handwriting_stays_as_it_is():
    image = made.on_paper("零")
    image[image > 240] = 255  # what's lighter counts as paper
    left, top, width, height = cv2.boundingRect((image < 255).astype(np.uint8))
    np.testing.assert_array_equal(clean(image), image[top : top + height, left : left + width])


def test_bold_ink_in_an_even_margin_is_no_table():
    bold = cv2.erode(made.on_paper("百"), np.ones((13, 13), np.uint8))
    assert made.overlap(clean(bold), bold) > 0.95


def test_faint_and_small_characters_keep_their_dots():
    lines = np.full((64, 64), 255, np.uint8)
    lines[30:33, 20:44] = 200
    lines[22:26, 30:33] = 205  # the dot of 六, seven pixels from the rest
    assert (clean(lines) < 250).sum() == (lines < 240).sum()


@pytest.mark.parametrize("box", [(95, 105, 30, 170), (30, 170, 95, 105), (90, 140, 90, 140)])
@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (0, 255), (190, 60)])
def test_ruled_strokes_are_ink(box, paper, ink):
    top, bottom, left, right = box
    image = np.full((200, 200), paper, np.uint8)
    image[top:bottom, left:right] = ink
    cleaned = clean(image)
    assert cleaned.shape == (bottom - top, right - left) and (cleaned == 0).all()


def test_blank_images_and_other_arrays_are_refused():
    grain = np.random.default_rng(0).normal(200, 2, (80, 80)).clip(0, 255).astype(np.uint8)
    for blank in (np.full((40, 40), 255, np.uint8), np.full((40, 40), 3, np.uint8), grain):
        with pytest.raises(ImageError, match="nothing but paper"):
            clean(blank)
    for shape, kind in (((5, 5), float), ((5, 5, 2), "u1"), ((0, 5), "u1"), ((5,), "u1")):
        with pytest.raises(ValueError, match="image"):
            clean(np.zeros(shape, kind))


def _encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_formats(kind):
    truth = made.on_paper("五")
    data = _encoded(Image.fromarray(truth), kind)
    assert made.overlap(clean(decode(data)), truth) > 0.95
    palette = _encoded(Image.fromarray(truth).quantize(8), "PNG")
    assert made.overlap(clean(decode(palette)), truth) > 0.9


def test_exif_rotation_is_undone():
    truth = made.on_paper("五")
    turned = Image.fromarray(cv2.rotate(truth, cv2.ROTATE_90_COUNTERCLOCKWISE))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for display
    cleaned = clean(decode(_encoded(turned, "JPEG", exif=exif)))
    assert made.overlap(cleaned, truth) > 0.95


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_grounds(ink):
    truth = made.on_paper("万")
    image = np.full((*truth.shape, 4), ink, np.uint8)
    image[..., 3] = 255 - truth
    cleaned = clean(decode(_encoded(Image.fromarray(image), "PNG")))
    assert made.overlap(cleaned, truth) > 0.95


@pytest.mark.parametrize(
    ("highest", "kind"),
    [(1.0, "TIFF"), (1023, "TIFF"), (4095, "TIFF"), (65535, "TIFF"), (65535, "PNG")],
)
def test_other_ranges_of_grey_are_read(highest, kind):
    truth = made.on_paper("百")
    values = truth / 255 * highest
    deep = values.astype(np.float32) if highest == 1 else np.rint(values).astype(np.uint16)
    if highest == 1:
        deep[0, 0] = np.nan
    image = decode(_encoded(Image.fromarray(deep), kind)).copy()
    image[0, 0] = 255  # what was no number
    assert made.overlap(clean(image), truth) > 0.95


@pytest.mark.slow
def test_large_photographs_are_made_smaller():
    truth = made.on_paper("五")
    large = cv2.resize(truth, (3000, 4000), interpolation=cv2.INTER_CUBIC)
    cleaned = clean(made.unevenly_lit(large, 0.6))
    assert max(cleaned.shape) <= 1024
    assert made.overlap(cleaned, truth) > 0.85


def _row(characters: str, gap: int = 8, axis: int = 1, seed: int = 1) -> np.ndarray:
    tiles = []
    for character in characters:
        ink = made.written(character, seed)
        pads = [((160 - side) // 2, (161 - side) // 2) for side in ink.shape]
        pads[axis] = (pads[axis][0], pads[axis][1] + gap)
        tiles.append(np.pad(ink, pads, constant_values=255))
    return np.concatenate(tiles, axis=axis)


def test_lines_columns_and_pages_are_counted():
    lines, pages = [], []
    for seed in range(30):
        for text in ("五百", "百零万", "五百万零"):
            layout = count_characters(_row(text, seed=seed))
            assert layout.rows == 1 and layout.characters <= len(text)
            lines.append((len(text), layout.characters))
        column = count_characters(_row("五百万", axis=0, seed=seed))
        assert column.rows == column.characters >= 3
        page = np.concatenate([_row("五百万", seed=seed), _row("零九七", seed=seed)])
        layout = count_characters(page)
        assert layout.rows == 2 and layout.characters <= 6
        pages.append(layout.characters == 6)
    wanted, found = np.array(lines).T
    # Two narrow characters may pass for a wide one of two parts; three don't.
    assert np.mean(found[wanted == 2] == 2) > 0.85
    assert (found[wanted > 2] > 1).all() and np.mean(found == wanted) > 0.8
    assert np.mean(pages) > 0.8


def test_characters_of_parts_are_one():
    for character in "八二三六亿":
        for seed in range(20):
            assert count_characters(made.on_paper(character, seed=seed)).characters == 1


def test_a_line_is_refused_with_a_hint_unless_asked_for():
    line = _row("五百万")
    with pytest.raises(ImageError, match="line of about 3 characters.*--any-layout"):
        read_clean(line)
    assert read_clean(line, single=False).shape[1] > 300


def test_files_folders_and_patterns(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deeper/c.webp", "notes.txt", "._b.png"):
        (folder / name).write_bytes(b"x")
    messages = []
    files = find_images([str(folder), str(folder / "*.png"), "-"], messages.append)
    names = ("a.JPG", "b.png", os.path.join("deeper", "c.webp"), "b.png")
    assert files == [*(str(folder / name) for name in names), "-"]
    assert messages == [f"{folder}: left out 1 files that aren't images (1 .txt)"]
    (tmp_path / "empty").mkdir()
    nothing = ["nothing-*", str(tmp_path / "empty")]
    assert find_images(nothing) == nothing
    for path, words in zip(nothing, ("No such file", "no image in it"), strict=True):
        with pytest.raises(ImageError, match=words):
            read_clean(path)


def test_what_cannot_be_read_is_named_by_its_type_or_reason():
    with pytest.raises(TypeError, match="not int"):
        read_clean(5)
    with pytest.raises(ImageError, match="No such file"):
        read_clean("missing.png")


@pytest.mark.slow
def test_real_single_characters_are_not_refused(hwdb100, tmp_path):
    from hccr_tf.data.store.prepare import prepare

    store = prepare([hwdb100 / "CASIA-HWDB_Test.zip"], tmp_path / "store", progress=False)
    images = store.images(np.arange(len(store)))
    refused = [image for image in images if count_characters(clean(image)).characters > 1]
    assert len(store) > 5000
    assert len(refused) <= 0.005 * len(store)


def test_photographs_are_cleaned_when_they_are_prepared(tmp_path, capsys):
    """Chalk on slate, in one folder per character, becomes what `Recognizer` reads."""
    images = {}
    for character in "百五":
        folder = tmp_path / "mine" / character
        folder.mkdir(parents=True)
        for seed in range(4):
            paper, ink = (40, 60, 50), (230, 230, 220)
            image = made.coloured(made.on_paper(character, seed=seed), paper, ink)
            images[f"{character}/{seed}"] = image
            Image.fromarray(image).save(folder / f"{seed}.webp", lossless=True)
    Image.new("L", (50, 50), 255).save(tmp_path / "mine" / "百" / "blank.png")
    command = ["data", "prepare", str(tmp_path / "mine")]
    assert main([*command, "--photographs", "--out", str(tmp_path / "clean")]) == 0
    assert "cleaned, as scans and photographs" in capsys.readouterr().out
    assert main([*command, "--out", str(tmp_path / "raw")]) == 0
    assert "cleaned, as" not in capsys.readouterr().out
    clean_store, raw = Store(tmp_path / "clean"), Store(tmp_path / "raw")
    assert clean_store.data_hash != raw.data_hash and len(raw) == 9
    # The blank one is said to be so, and isn't lost.
    assert len(clean_store) == 8
    skipped = (clean_store.path / "skipped.csv").read_text("utf-8")
    assert "blank.png" in skipped and "nothing but paper" in skipped
    for i in range(8):
        name = "/".join(clean_store.sample_id(i).split("/")[-2:]).removesuffix(".webp")
        np.testing.assert_array_equal(clean_store.image(i), clean(images[name]))
    assert all(np.median(raw.image(i)) < 128 for i in range(9) if raw.image(i).shape != (50, 50))


def test_a_stroke_alone_on_a_small_image_is_ink():
    """A stroke two pixels high, a twelfth of its image: what isn't paper there is all ink."""
    image = np.full((12, 22), 255, np.uint8)
    image[8:10, 4:15] = np.linspace(80, 224, 22).reshape(2, 11).astype(np.uint8)
    found = clean(image)
    assert (found < 128).sum() > 5 and found.shape[1] > 3 * found.shape[0]


def test_an_image_all_ink_has_no_pen_whose_width_counts():
    ink = np.full((9, 30), 255, np.uint8)
    assert all(one.sum() < ink.sum() for one in alternatives(ink, (False,) * 4))
