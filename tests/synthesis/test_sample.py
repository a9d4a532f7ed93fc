"""The embedded sample: writers with habits, as `.gnt` files."""

import io

import cv2
import numpy as np
import pytest

from hccr_tf.data.sources.gnt import read_blocks
from hccr_tf.synthesis.sample import generate_gnt, writer_style
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.utils.errors import HccrError


def _samples(path):
    data = path.read_bytes()
    blocks = read_blocks(io.BytesIO(data), path.name, len(data))
    return [sample for block in blocks for sample in block.samples()]


def _images(path):
    return [sample.image for sample in _samples(path)]


def test_generated_gnt_reads_back(tmp_path):
    writers = {"num_writers": 2, "num_test_writers": 1, "samples_per_writer": 2}
    look = {"characters": "一九零", "seed": 5, "size": 32}
    paths = generate_gnt(tmp_path, **writers, **look)
    names = ["SampleTrain/9001-s.gnt", "SampleTrain/9002-s.gnt", "SampleTest/9003-s.gnt"]
    assert paths == [tmp_path / name for name in names]
    for path in paths:
        records = _samples(path)
        assert [record.character for record in records] == list("一九零一九零")
        for image in (record.image for record in records):
            assert image.dtype == np.uint8 and 12 < max(image.shape) < 60
            assert image.min() < 128 and np.median(image) > 200
    # The bytes CASIA documents, not only what our own reader takes.
    raw = paths[0].read_bytes()
    width, height = (int.from_bytes(raw[k : k + 2], "little") for k in (6, 8))
    assert int.from_bytes(raw[:4], "little") == 10 + width * height
    assert raw[4:6] == "一".encode("gbk")


def test_a_file_depends_on_its_number_alone(tmp_path):
    few = generate_gnt(tmp_path / "few", num_writers=1, num_test_writers=0, samples_per_writer=1)
    many = generate_gnt(tmp_path / "many", num_writers=2, num_test_writers=1, samples_per_writer=1)
    assert few[0].read_bytes() == many[0].read_bytes()
    assert len({path.read_bytes() for path in many}) == 3
    # Fewer writers into the same folder would leave a training file of a test writer behind.
    with pytest.raises(FileExistsError, match="2 other"):
        generate_gnt(tmp_path / "many", num_writers=1, num_test_writers=1, samples_per_writer=1)


def test_impossible_data_sets_are_refused(tmp_path):
    with pytest.raises(HccrError, match="永.*1 of 2.*strokes of 15"):
        generate_gnt(tmp_path, characters="一永")
    for numbers in ({"num_writers": 0}, {"samples_per_writer": 0}, {"num_test_writers": -1}):
        with pytest.raises(HccrError, match="Nothing to write"):
            generate_gnt(tmp_path, **numbers)
    with pytest.raises(HccrError, match="16 to 256 pixels, not 4"):
        generate_gnt(tmp_path, size=4)
    assert not list(tmp_path.iterdir())


def test_any_writer_can_be_drawn():
    for seed in range(300):
        for size in (16, 256):  # HandwritingStyle checks its ranges
            style = writer_style(np.random.default_rng(seed), size)
            assert 0.4 * size < style.side_low < style.side_high < 1.5 * size


def test_a_writers_habits_persist(tmp_path):
    """A writer's images differ among themselves, and less than those of several writers."""
    paths = generate_gnt(tmp_path, characters="九", num_writers=12, samples_per_writer=12, seed=1)
    writers = [_images(path) for path in paths[:12]]
    assert len({image.tobytes() for images in writers for image in images}) == 144
    side = np.array([[max(image.shape) for image in images] for images in writers])
    ink = np.array([[(image < 128).mean() for image in images] for images in writers])
    aspect = np.array([[i.shape[0] / i.shape[1] for i in images] for images in writers])
    for habit in (side, ink, aspect):
        assert habit.mean(1).var() > 0.2 * habit.var(1).mean()  # a twelfth without habits


def test_the_images_can_be_learned(tmp_path):
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

    paths = generate_gnt(tmp_path, num_writers=16, num_test_writers=10, samples_per_writer=1)
    images = np.array([[normalised(image) for image in _images(path)] for path in paths])
    predicted = (images[16:] @ images[:16].mean(0).T).argmax(-1)
    assert (predicted == np.arange(len(load_strokes()))).mean() > 0.5
