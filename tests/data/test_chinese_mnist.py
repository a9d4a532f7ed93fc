import cv2
import numpy as np
import pytest
from disk import pack
from photographs import on_paper

from hccr_tf.charset import NUMERALS
from hccr_tf.data.store.prepare import prepare

TABLE = (
    "suite_id,sample_id,code,value,character\n1,1,1,0,零\n1,1,10,9,九\n2,1,15,100000000,亿\n"
    "1,2,,0,零\n"
)


@pytest.fixture
def folder(tmp_path, make_image):
    root = tmp_path / "chinese_mnist"
    (root / "data").mkdir(parents=True)
    for i, name in enumerate(("input_1_1_1", "input_1_1_10", "input_2_1_15", "input_2_1_16")):
        image = np.zeros((64, 64), np.uint8)
        cv2.line(image, (5, 5 + i), (60, 40 + i), 255, 3)
        cv2.imwrite(str(root / "data" / f"{name}.jpg"), image)
    (root / "chinese_mnist.csv").write_text(TABLE, encoding="utf-8")
    return root


def check(samples, skipped, _):
    samples = {sample.source.rsplit("/", 1)[1]: sample for sample in samples}
    assert {name: (s.character, s.writer, s.split) for name, s in samples.items()} == {
        "input_1_1_1.jpg": ("零", "suite 1", None),
        "input_1_1_10.jpg": ("九", "suite 1", None),
        "input_2_1_15.jpg": ("亿", "suite 2", None),
    }
    for sample in samples.values():  # White paper, as everywhere else.
        assert sample.image[0, 0] > 240 and sample.image.min() < 30
    reasons = {record.reason for record in skipped}
    assert reasons == {"code outside 1 to 15", "table row without a code of 1 to 15"}


def test_folder_and_archives(folder, tmp_path, read_kinds):
    check(*read_kinds(folder))
    check(*read_kinds(pack(tmp_path / "archive.zip", folder)))


def test_a_table_that_says_something_else_is_refused(folder, read_kinds):
    (folder / "chinese_mnist.csv").write_text(TABLE.replace("九", "十"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"chinese_mnist\.csv, line 3: code 10 is '十'"):
        read_kinds(folder)


def test_one_csv_of_pixels(tmp_path, read_kinds):
    drawn = [255 - cv2.resize(on_paper(c, margin=9), (64, 64)) for c in "零七亿"]
    head = ",".join([*(f"pixel_{i}" for i in range(64 * 64)), "label", "character"])
    rows = [
        ",".join([*map(str, image.ravel()), value, character])
        for image, value, character in zip(drawn, "078", "零七亿", strict=True)
    ]
    rows += ["1,2,3,7,七", rows[0].replace("零", "木")]
    path = tmp_path / "chineseMNIST.csv"
    path.write_text("\n".join([head, *rows, ""]), encoding="utf-8")
    for source in (path, pack(tmp_path / "archive.zip", {path.name: path.read_bytes()})):
        samples, skipped, _ = read_kinds(source)
        assert "".join(sample.character for sample in samples) == "零七亿"
        for sample, image in zip(samples, drawn, strict=True):
            np.testing.assert_array_equal(sample.image, 255 - image)
        assert [s.reason for s in skipped] == ["row without pixels and a numeral"] * 2


@pytest.mark.slow
def test_the_complete_set(real_data, tmp_path):
    source = real_data / "chinese_mnist"
    by_writer = prepare([source], tmp_path / "writer", split="writer")
    assert (len(by_writer), len(by_writer.charset)) == (15000, 15)
    assert set(by_writer.charset) == set(NUMERALS)
    assert by_writer.manifest["writers"]["num_writers"] == 100
    assert (np.bincount(by_writer.labels) == 1000).all()
    sides = [set(by_writer.writers[by_writer.indices(s)].tolist()) for s in ("train", "test")]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 20
    # The paper's split: random and stratified.
    shuffled = prepare(by_writer.path, tmp_path / "shuffle", split="shuffle", test_fraction=0.2)
    counts = np.bincount(shuffled.labels[shuffled.indices("test")])
    assert counts.min() >= 195 and counts.max() <= 205
