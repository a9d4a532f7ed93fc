import pytest

from hccr_tf.charset import Charset
from hccr_tf.data.sources.catalogue import KNOWN_SETS, check_counts, is_whole, known_file


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Gnt1.0TrainPart1.zip", ("hwdb1.0", "train 1")),
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
        *(
            (name, None)
            for name in (
                "HWDB1.0trn.zip",
                "HWDB1.3trn_gnt.zip",
                "Gnt1.3Test.zip",
                "Gnt1.0TestPart.zip",
                "data.zip",
                "OLHWDB1.0trn_gnt.zip",
                "my-competition-gnt-2.zip",
                "",
            )
        ),
    ],
)
def test_names_of_files(name, expected):
    assert known_file(name) == expected


def test_whole_sets():
    assert is_whole("hwdb1.0", {"train", "test"})
    assert is_whole("hwdb1.0", {"train 1", "train 2", "train 3", "test"})
    assert not is_whole("hwdb1.0", {"train 1", "train 2", "test"})
    assert not is_whole("repack", {"train"})
    assert is_whole("icdar2013", {"all"})


def charset_of(count: int, start: str = "") -> Charset:
    """A charset of `count` characters that begins with those given."""
    rest = (chr(0x3400 + i) for i in range(20000))
    return Charset.from_text([*dict.fromkeys([*start, *rest])][:count])


def whole(*keys: str) -> list[tuple[str, str]]:
    return [(key, "all") for key in keys]


def test_complete_sets_are_complete():
    level1 = Charset.named("gb2312-1").text
    checks = check_counts(whole("hwdb1.0"), 420, 1_680_258, charset_of(3866 + 171))
    assert [(c.what, c.complete) for c in checks] == [
        ("samples", True),
        ("writers", True),
        ("classes", True),
    ]
    assert checks[0].text == "1,680,258 samples: HWDB1.0, complete"
    together = check_counts(
        whole("hwdb1.2", "hwdb1.0", "hwdb1.1"), 1020, 3_895_135, charset_of(7_356, level1)
    )
    assert len(together) == 4 and all(c.complete for c in together)
    assert together[0].text == "3,895,135 samples: HWDB1.0 + HWDB1.1 + HWDB1.2, complete"


@pytest.mark.parametrize(
    ("keys", "classes"),
    [
        *(([key], known.num_classes) for key, known in KNOWN_SETS.items()),
        (["hwdb1.0", "hwdb1.2"], 7_356),
        (["hwdb1.0", "hwdb1.1"], 3_866 + 15 + 171),
        (["hwdb1.1", "icdar2013"], 3_926),
        (["hwdb1.0", "hwdb1.1", "hwdb1.2", "icdar2013"], 7_356),
    ],
)
def test_classes_of_sets_together(keys, classes):
    checks = {c.what: c for c in check_counts(whole(*keys), 0, 0, charset_of(10))}
    assert checks["classes"].expected == classes


def test_missing_samples_writers_and_characters_are_named():
    level1 = Charset.named("gb2312-1").text
    checks = check_counts(whole("hwdb1.1"), 299, 1_172_900, charset_of(3_900, level1[3:]))
    samples, writers, classes, characters = (check.text for check in checks)
    assert samples.startswith("1,172,900 samples: 7 samples short of HWDB1.1 (1,172,907)")
    assert writers.startswith("299 writers: 1 writers short of HWDB1.1 (300)")
    assert classes == "3,900 classes of 3,926, a part of HWDB1.1"
    assert characters == "GB2312 level 1: 3 of 3,755 hanzi missing, which HWDB1.1 has: 啊 阿 埃"
    assert not any(c.complete for c in checks)
    more = check_counts(whole("chinese-mnist"), 100, 15_001, charset_of(15))[0]
    assert more.text == "15,001 samples: 1 more than the 15,000 of Chinese MNIST"


def test_a_part_is_called_a_part():
    files = [("hwdb1.0", "train 1"), ("hwdb1.0", "test")]
    samples, writers, classes = check_counts(files, 200, 800_000, charset_of(4_037))
    assert samples.text == (
        "800,000 samples of 1,680,258, a part of HWDB1.0 (HWDB1.0: test, train 1 only)"
    )
    assert "a part" in writers.text and classes.complete
    # The repack has lost its writers, and nobody counted its images.
    (only,) = check_counts([("repack", "test")], 0, 5_678, charset_of(100))
    assert only.what == "classes" and "a part of the Kaggle repack" in only.text


def test_sets_that_nothing_is_known_of():
    assert check_counts([], 3, 4, charset_of(5)) == []
    # How the repack overlaps with the sets it was made of is not known.
    assert check_counts(whole("repack", "hwdb1.2"), 9, 9, charset_of(9)) == []
