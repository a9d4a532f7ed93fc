import dataclasses
import gzip
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from hccr_tf.data.sources.gnt import GntRecord, read_gnt
from hccr_tf.synthesis.sample import EMBEDDED_CHARACTERS, Writer, generate_gnt, load_strokes, render

COUNTS = [13, 1, 2, 3, 5, 4, 4, 2, 2, 2, 2, 6, 3, 3, 3]
STROKE_COUNTS = dict(zip(EMBEDDED_CHARACTERS, COUNTS, strict=True))


@pytest.fixture(scope="module")
def strokes():
    return load_strokes()


def writer(seed):
    return Writer.sample(np.random.default_rng(seed))


def test_embedded_characters_have_their_strokes(strokes):
    assert "".join(strokes) == EMBEDDED_CHARACTERS == "零一二三四五六七八九十百千万亿"
    assert {character: len(lines) for character, lines in strokes.items()} == STROKE_COUNTS
    for lines in strokes.values():
        for line in lines:
            assert line.dtype == np.float32 and line.ndim == 2 and line.shape[1] == 2
            assert len(line) >= 3
            assert line[:, 0].min() >= 0 and line[:, 0].max() <= 1024
            assert line[:, 1].min() >= -124 and line[:, 1].max() <= 900


def test_y_points_upwards(strokes):
    upper, lower = strokes["二"]
    assert upper[:, 1].min() > lower[:, 1].max()
    assert np.ptp(upper[:, 0]) < np.ptp(lower[:, 0])
    # drawn, the short stroke of 二 lies above the long one
    plain = Writer(cursive=0, width=0.03)
    image = render(strokes["二"], plain, np.random.default_rng(0))
    ink = (255 - image.astype(int)).sum(1)
    middle = len(ink) // 2
    assert ink[:middle].sum() < ink[middle:].sum()


@pytest.mark.parametrize("crop", [True, False])
def test_same_seed_gives_equal_bytes(strokes, crop):
    def images():
        rng = np.random.default_rng(7)
        style = Writer.sample(rng)
        return [render(strokes[c], style, rng, 48, crop) for c in EMBEDDED_CHARACTERS]

    for first, second in zip(images(), images(), strict=True):
        assert first.shape == second.shape and first.tobytes() == second.tobytes()


def test_writers_and_samples_differ(strokes):
    assert writer(1) == writer(1) != writer(2)
    rng = np.random.default_rng(0)
    first, second = (render(strokes["五"], writer(1), rng, crop=False) for _ in range(2))
    assert (first != second).any()
    # two images by one writer are closer in pen width than those of a broad and a fine writer
    broad, fine = (dataclasses.replace(writer(1), width=width) for width in (0.08, 0.025))
    ink = {
        style: [(render(strokes["五"], style, rng) < 128).sum() for _ in range(5)]
        for style in (broad, fine)
    }
    assert min(ink[broad]) > max(ink[fine])


def test_a_writers_habit_persists(strokes):
    """Images of one writer are more alike than images of writers who differ only in habit."""
    base = Writer(cursive=0.2, grain=0)

    def mean(habit, seed):
        rng = np.random.default_rng(seed)
        style = dataclasses.replace(base, habit=habit)
        images = [render(strokes["亿"], style, rng, crop=False) for _ in range(40)]
        return np.mean(images, 0)

    same = np.abs(mean(1, 0) - mean(1, 1)).mean()
    other = np.abs(mean(1, 0) - mean(5, 1)).mean()
    assert same < other


def test_images_are_dark_ink_on_white(strokes):
    rng = np.random.default_rng(3)
    for seed in range(20):
        for character in "零一十百":
            cropped = render(strokes[character], writer(seed), rng)
            assert cropped.dtype == np.uint8 and cropped.ndim == 2
            assert cropped.flags.c_contiguous
            for side in (cropped[0], cropped[-1], cropped[:, 0], cropped[:, -1]):
                assert side.min() < 255
            assert cropped.min() < 80
            whole = render(strokes[character], writer(seed), rng, size=40, crop=False)
            assert whole.shape == (40, 40)
            frame = np.concatenate(
                [whole[:2].ravel(), whole[-2:].ravel(), whole[:, :2].ravel(), whole[:, -2:].ravel()]
            )
            assert frame.min() == 255
            assert 0.01 < (whole < 255).mean() < 0.6


def test_size_scales_the_image(strokes):
    small, large = (
        render(strokes["四"], Writer(), np.random.default_rng(0), size) for size in (48, 96)
    )
    assert np.allclose(np.array(large.shape) / small.shape, 2, atol=0.2)


@pytest.mark.parametrize(
    "lines",
    [
        [[[512, 400]]],
        [[[512, 400], [512, 400], [512, 400]]],
        [[[100, 500], [900, 500]], [[512, 400]], [[512, 400], [512, 400]]],
        [[[0, -124], [1024, 900]]],
        [[[-900, 500], [2500, 700]]],
        [[[500, 500], [501, 500]]] * 60,
    ],
    ids=["dot", "repeated", "mixed", "diagonal", "outside", "many"],
)
@pytest.mark.parametrize("crop", [True, False])
def test_any_centre_lines_are_drawn(lines, crop):
    lines = [np.array(line, np.float32) for line in lines]
    for seed in range(10):
        for size in (8, 64):
            image = render(lines, writer(seed), np.random.default_rng(seed), size, crop)
            assert image.min() < 128
            assert crop or image.shape == (size, size)


@pytest.mark.parametrize(
    "lines",
    [[], [np.zeros((0, 2))], [np.zeros((3, 3))], [np.array([[0, np.nan]])], [np.full((2, 2), 1e7)]],
    ids=["none", "empty", "shape", "nan", "far"],
)
def test_impossible_centre_lines_are_refused(lines):
    with pytest.raises(ValueError, match="[Ss]troke"):
        render(lines, Writer(), np.random.default_rng(0))


def test_too_small_an_image_is_refused(strokes):
    with pytest.raises(ValueError, match="at least 8"):
        render(strokes["一"], Writer(), np.random.default_rng(0), size=4)


@pytest.mark.parametrize("name", ["own.json", "own.json.gz"])
def test_own_centre_lines_are_read(tmp_path, name):
    path = tmp_path / name
    raw = json.dumps({"丁": [[[1, 2], [3, 4.5]], [[5, 6]]]}).encode()
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    strokes = load_strokes(str(path))
    assert list(strokes) == ["丁"]
    assert [line.tolist() for line in strokes["丁"]] == [[[1, 2], [3, 4.5]], [[5, 6]]]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"一": []}',
        '{"一": 3}',
        '{"一": [[]]}',
        '{"一": [[[1, 2, 3]]]}',
        '{"一": [[[1, 2], [3]]]}',
        '{"一": [[["a", 2]]]}',
        '{"一": [[[1, NaN]]]}',
    ],
)
def test_malformed_files_are_named(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf8")
    with pytest.raises(ValueError, match=r"broken\.json.*Expected JSON"):
        load_strokes(path)


def test_damaged_gzip_is_named(tmp_path):
    whole = gzip.compress(json.dumps({"一": [[[1, 2]] * 500]}).encode())
    for raw in (b"{}", whole[:-9], whole[:12] + b"\xff" * 20):
        path = tmp_path / "broken.json.gz"
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"broken\.json\.gz.*Expected JSON"):
            load_strokes(path)
    with pytest.raises(FileNotFoundError):
        load_strokes(tmp_path / "absent.json")


def test_generated_gnt_reads_back(tmp_path, strokes):
    done = []
    paths = generate_gnt(
        tmp_path,
        characters="一九零",
        num_writers=2,
        num_test_writers=1,
        samples_per_writer=2,
        seed=5,
        size=32,
        progress=lambda *state: done.append(state),
    )
    assert [str(path.relative_to(tmp_path).as_posix()) for path in paths] == [
        "SampleTrain/9001-s.gnt",
        "SampleTrain/9002-s.gnt",
        "SampleTest/9003-s.gnt",
    ]
    assert done == [(1, 3), (2, 3), (3, 3)]
    for index, path in enumerate(paths):
        rng = np.random.default_rng([5, index])
        style = Writer.sample(rng)
        records = list(read_gnt(path))
        assert all(isinstance(record, GntRecord) for record in records)
        assert [record.character for record in records] == list("一九零一九零")
        for record in records:
            expected = render(strokes[record.character], style, rng, 32)
            assert np.array_equal(record.image, expected)
    # the bytes CASIA documents, not only what our own reader takes
    raw = paths[0].read_bytes()
    width, height = (int.from_bytes(raw[k : k + 2], "little") for k in (6, 8))
    assert int.from_bytes(raw[:4], "little") == 10 + width * height
    assert raw[4:6] == "一".encode("gbk")


def test_writers_files_do_not_depend_on_their_number(tmp_path):
    few = generate_gnt(tmp_path / "few", num_writers=1, num_test_writers=0, samples_per_writer=1)
    many = generate_gnt(tmp_path / "many", num_writers=2, num_test_writers=1, samples_per_writer=1)
    assert few[0].read_bytes() == many[0].read_bytes()
    assert len({path.read_bytes() for path in many}) == 3
    # fewer writers into the same folder would leave a training file of a test writer behind
    with pytest.raises(FileExistsError, match="2 other"):
        generate_gnt(tmp_path / "many", num_writers=1, num_test_writers=1, samples_per_writer=1)


def test_impossible_data_sets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="永.*1 of 2.*strokes of 15"):
        generate_gnt(tmp_path, characters="一永")
    for numbers in ({"num_writers": 0}, {"samples_per_writer": 0}, {"num_test_writers": -1}):
        with pytest.raises(ValueError, match="Nothing to write"):
            generate_gnt(tmp_path, **numbers)
    assert not list(tmp_path.iterdir())


def test_the_images_can_be_learned(strokes):
    """Class means of some writers recognise other writers: far above chance, 1 in 15."""

    def normalised(image):
        """Centred, the longer side 26 of 32 pixels, blurred, of unit length."""
        ink = 255 - image.astype(np.float32)
        height, width = (max(1, round(26 * side / max(ink.shape))) for side in ink.shape)
        square = np.zeros((32, 32), np.float32)
        top, left = (32 - height) // 2, (32 - width) // 2
        square[top : top + height, left : left + width] = cv2.resize(ink, (width, height))
        vector = cv2.GaussianBlur(square, (0, 0), 1.5).ravel()
        return vector / np.linalg.norm(vector)

    def images(seeds):
        data = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            style = Writer.sample(rng)
            data.append([normalised(render(strokes[c], style, rng)) for c in EMBEDDED_CHARACTERS])
        return np.array(data)

    means = images(range(30)).mean(0)
    predicted = (images(range(100, 120)) @ means.T).argmax(-1)
    assert (predicted == np.arange(len(EMBEDDED_CHARACTERS))).mean() > 0.7


def test_import_needs_no_opencv():
    code = (
        "import sys; sys.modules['cv2'] = None; "
        "from hccr_tf.synthesis.sample import load_strokes; print(len(load_strokes()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "15"
