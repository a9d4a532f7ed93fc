import pytest

from hccr_tf.charset import Charset
from hccr_tf.data.sources.catalogue import (
    HWDB_CLASSES,
    KNOWN_COUNTS,
    Part,
    check_counts,
    is_whole,
    known_set,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Gnt1.0TrainPart1.zip", ("hwdb1.0", "train 1")),
        ("Gnt1.0TrainPart3.zip", ("hwdb1.0", "train 3")),
        ("Gnt1.1Test.zip", ("hwdb1.1", "test")),
        ("Gnt1.2Test", ("hwdb1.2", "test")),
        ("downloads/gnt1.2trainpart2 (1).ZIP", ("hwdb1.2", "train 2")),
        ("HWDB1.0trn_gnt.zip", ("hwdb1.0", "train")),
        ("HWDB1.1trn_gnt.alz", ("hwdb1.1", "train")),
        ("C:\\data\\HWDB1.1tst_gnt\\", ("hwdb1.1", "test")),
        ("competition-gnt.zip", ("icdar2013", "all")),
        ("CASIA-HWDB_Train.zip", ("repack", "train")),
        ("CASIA-HWDB_Test", ("repack", "test")),
        ("chinese_mnist", ("chinese-mnist", "all")),
        ("mnist.npz", ("mnist", "all")),
        ("MNIST", ("mnist", "all")),
        ("fashion_mnist.npz", ("fashion-mnist", "all")),
        ("FashionMNIST.zip", ("fashion-mnist", "all")),
    ],
)
def test_names_of_known_files(name, expected):
    assert known_set(name) == Part(*expected)
    assert known_set(name).set in KNOWN_COUNTS


@pytest.mark.parametrize(
    "name",
    [
        "HWDB1.0trn.zip",
        "HWDB1.3trn_gnt.zip",
        "Gnt1.3Test.zip",
        "Gnt1.0TestPart.zip",
        "data.zip",
        "OLHWDB1.0trn_gnt.zip",
        "my-competition-gnt-2.zip",
        "",
    ],
)
def test_names_of_other_files(name):
    assert known_set(name) is None


def test_whole_sets():
    assert is_whole("hwdb1.0", ["train", "test"])
    assert is_whole("hwdb1.0", ["train 1", "train 2", "train 3", "test"])
    assert not is_whole("hwdb1.0", ["train 1", "train 2", "test"])
    assert is_whole("hwdb1.1", ["train 2", "train 1", "test"])
    assert not is_whole("repack", ["train"])
    assert is_whole("icdar2013", ["all"])


def charset_of(count: int, start: str = "") -> Charset:
    """A charset of `count` characters that begins with those given."""
    rest = (chr(0x3400 + i) for i in range(20000))
    characters = dict.fromkeys(start)
    for character in rest:
        if len(characters) >= count:
            break
        characters.setdefault(character)
    return Charset.from_characters(characters)


def test_complete_sets_are_complete():
    level1 = Charset.named("gb2312-1").text
    checks = check_counts(["hwdb1.0"], 420, 1_680_258, charset_of(3866 + 171))
    assert [(c.what, c.complete) for c in checks] == [
        ("samples", True),
        ("writers", True),
        ("classes", True),
    ]
    assert str(checks[0]) == "1,680,258 samples: HWDB1.0, complete"
    whole = check_counts(
        ["hwdb1.2", "hwdb1.0", "hwdb1.1"], 1020, 3_895_135, charset_of(HWDB_CLASSES, level1)
    )
    assert len(whole) == 4 and all(c.complete for c in whole)
    assert whole[0].text == "3,895,135 samples: HWDB1.0 + HWDB1.1 + HWDB1.2, complete"
    competition = check_counts([("icdar2013", "all")], 60, 224_419, Charset.named("gb2312-1"))
    assert all(c.complete for c in competition)
    mnist = check_counts(["chinese-mnist"], 100, 15_000, Charset.named("chinese-mnist"))
    assert [c.what for c in mnist] == ["samples", "writers", "classes"]
    assert all(c.complete for c in mnist)


@pytest.mark.parametrize(
    ("sets", "classes"),
    [
        (["hwdb1.0"], 4_037),
        (["hwdb1.1"], 3_926),
        (["hwdb1.2"], 3_490),
        (["hwdb1.0", "hwdb1.2"], 7_356),
        (["hwdb1.0", "hwdb1.1"], 3_866 + 15 + 171),
        (["hwdb1.1", "icdar2013"], 3_926),
        (["hwdb1.0", "hwdb1.1", "hwdb1.2", "icdar2013"], 7_356),
        (["repack"], 7_330),
    ],
)
def test_classes_of_sets_together(sets, classes):
    checks = {c.what: c for c in check_counts(sets, 0, 0, charset_of(10))}
    assert checks["classes"].expected == classes


def test_what_is_missing_is_said():
    level1 = Charset.named("gb2312-1").text
    samples, writers, classes, characters = check_counts(
        ["hwdb1.1"], 299, 1_172_900, charset_of(3_900, level1[3:])
    )
    assert samples.text.startswith("1,172,900 samples: 7 samples short of HWDB1.1 (1,172,907)")
    assert writers.text.startswith("299 writers: 1 writers short of HWDB1.1 (300)")
    assert classes.text == "3,900 classes of 3,926, a part of HWDB1.1"
    assert characters.text == (
        "GB2312 level 1: 3 of 3,755 hanzi missing, which HWDB1.1 has: 啊 阿 埃"
    )
    assert not any(c.complete for c in (samples, writers, classes, characters))
    more = check_counts(["chinese-mnist"], 100, 15_001, charset_of(15))[0]
    assert more.text == "15,001 samples: 1 more than the 15,000 of Chinese MNIST"


def test_a_part_is_called_a_part():
    parts = [known_set("Gnt1.0TrainPart1.zip"), known_set("Gnt1.0Test.zip")]
    samples, writers, classes = check_counts(parts, 200, 800_000, charset_of(4_037))
    assert samples.text == (
        "800,000 samples of 1,680,258, a part of HWDB1.0 (HWDB1.0: test, train 1 only)"
    )
    assert "a part" in writers.text and classes.complete
    # The repack has lost its writers, and nobody counted its images.
    (only,) = check_counts([known_set("CASIA-HWDB_Test.zip")], 0, 5_678, charset_of(100))
    assert only.what == "classes" and "a part of the Kaggle repack" in only.text


def test_sets_that_nothing_is_known_of():
    assert check_counts([], 3, 4, charset_of(5)) == []
    # How the repack overlaps with the sets it was made of is not known.
    assert [c.what for c in check_counts(["repack", "hwdb1.2"], 9, 9, charset_of(9))] == []
    with pytest.raises(ValueError, match="'hwdb2.0'; there are hwdb1.0"):
        check_counts(["hwdb2.0"], 1, 1, charset_of(1))
