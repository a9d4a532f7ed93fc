"""Logits files: what's in them, atomic writing, and which ones are refused."""

import json

import h5py
import numpy as np
import pytest

from hccr_tf.charset import Charset
from hccr_tf.inference.logits_file import LogitsFile, open_same_samples, seal, write_logits
from hccr_tf.papers.recipes import get_recipe

CHARSET = Charset.from_text("一二三四")
ROWS = slice(None)


@pytest.fixture
def logits():
    return np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


@pytest.fixture
def labels():
    return np.array([0, 3, 1, 2, 2, 0], np.int32)


# === Format ===


def test_datasets_and_attributes_of_the_file(tmp_path, logits, labels):
    path = tmp_path / "new" / "logits.h5"
    recipe = get_recipe("kriuk_model2").to_dict()
    attributes = {"recipe": recipe, "split": "test", "tta": "five_crops", "blur": True}
    ids = [f"字/{i}.png" for i in range(6)]
    with write_logits(path, 6, CHARSET, attributes, center=True) as add_rows:
        add_rows(labels, ids, logits, -logits)
    with h5py.File(path) as file:
        assert sorted(file) == ["labels", "logits", "logits_center", "sample_ids"]
        for name, values in (("logits", logits), ("logits_center", -logits), ("labels", labels)):
            assert file[name].dtype == values.dtype
            np.testing.assert_array_equal(file[name], values)
        assert file["sample_ids"].asstr()[()].tolist() == ids
        assert file.attrs["charset"].decode() == "一二三四"
        assert file.attrs["charset_sha256"].decode() == CHARSET.sha256
        assert file.attrs["split"] == b"test" and file.attrs["tta"] == b"five_crops"
        assert bool(file.attrs["blur"]) is True
        assert json.loads(file.attrs["recipe"]) == json.loads(json.dumps(recipe))


def test_what_is_written_in_pieces_is_read_in_others(tmp_path, logits, labels):
    path, ids = tmp_path / "a.h5", [f"test/{i}" for i in range(6)]
    with write_logits(path, 6, CHARSET, {"split": "test"}, center=True) as add_rows:
        for start, end in ((0, 4), (4, 5), (5, 6)):
            part = logits[start:end]
            add_rows(labels[start:end], ids[start:end], part, 2 * part)
    with LogitsFile(path) as file:
        assert len(file) == 6 and file.datasets == ["logits", "logits_center"]
        assert file.charset.text == "一二三四" and file.attributes["split"] == "test"
        np.testing.assert_array_equal(file.logits(slice(2, 5)), logits[2:5])
        np.testing.assert_array_equal(file.logits(ROWS), logits)
        np.testing.assert_array_equal(file.logits(ROWS, "logits_center"), 2 * logits)
        np.testing.assert_array_equal(file.labels(slice(1, 3)), labels[1:3])
        assert file.sample_ids(slice(4, 6)) == ["test/4", "test/5"]


def test_reading_in_pieces_covers_every_row_once(make_logits_file):
    characters = "".join(chr(0x4E00 + i) for i in range(3000))
    logits = np.zeros((6000, 3000), np.float32)
    path = make_logits_file("a.h5", logits, np.zeros(6000, np.int32), characters=characters)
    with LogitsFile(path) as file:
        chunks = list(file.chunks())
    assert np.concatenate([np.r_[c] for c in chunks]).tolist() == list(range(6000))
    assert len(chunks) == 3 and all(12_000 * (c.stop - c.start) <= 32 << 20 for c in chunks)


# === Atomic ===


@pytest.mark.parametrize("earlier", [[], [b"earlier"]])
def test_a_failed_write_leaves_what_was_there(tmp_path, logits, labels, earlier):
    path = tmp_path / "logits.h5"
    for content in earlier:
        path.write_bytes(content)
    with pytest.raises(KeyboardInterrupt), write_logits(path, 6, CHARSET, {}) as add_rows:
        add_rows(labels[:2], ["a", "b"], logits[:2])
        assert path.exists() == bool(earlier)
        raise KeyboardInterrupt
    assert [file.read_bytes() for file in tmp_path.iterdir()] == earlier


@pytest.mark.parametrize("count", [0, 5])
def test_rows_that_were_promised_must_come(tmp_path, logits, labels, count):
    ids = [str(i) for i in range(count)]
    with (
        pytest.raises(ValueError, match=f"got {count} samples, not 6"),
        write_logits(tmp_path / "logits.h5", 6, CHARSET, {}) as add_rows,
    ):
        add_rows(labels[:count], ids, logits[:count])
    assert not list(tmp_path.iterdir())


# === Refusals ===


def test_what_is_no_logits_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="There is no logits file .*none.h5; a predictor writes"):
        LogitsFile(tmp_path / "none.h5")
    (tmp_path / "a.h5").write_text("1,2,3")
    with pytest.raises(ValueError, match=r"a\.h5 is damaged, of an earlier version or no logits"):
        LogitsFile(tmp_path / "a.h5")
    with write_logits(tmp_path / "b.h5", 0, CHARSET, {}):
        pass
    with pytest.raises(ValueError, match=r"b\.h5 holds no samples"):
        LogitsFile(tmp_path / "b.h5")


def _without_parts(file):
    del file["labels"]
    del file.attrs["charset"]


def _with_another_charset(file):
    file.attrs["charset"] = np.bytes_("一零二三".encode())


def _without_a_row(file):
    rows = file["logits"][:5]
    del file["logits"]
    file["logits"] = rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_parts, "lacks the arrays labels; predict again (hccr evaluate)"),
        (_with_another_charset, "is damaged: its charset doesn't fit its own hash."),
        (
            _without_a_row,
            "is damaged: logits is ('f', (5, 4)), not ('f', (6, 4)); predict again (hccr evaluate)",
        ),
    ],
)
def test_damage_is_named(make_logits_file, logits, labels, change, message):
    path = make_logits_file("a.h5", logits, labels)
    with h5py.File(path, "r+") as file:
        change(file)
    seal(path)
    with pytest.raises(ValueError) as caught:
        LogitsFile(path)
    assert str(caught.value) == f"{path} {message}"


def test_one_changed_bit_is_damage(make_logits_file, logits, labels):
    """Flipped signs would be read as another model's answers."""
    path = make_logits_file("a.h5", logits, labels)
    sound = path.read_bytes()
    for place in (600, len(sound) // 2, len(sound) - 1):
        damaged = bytearray(sound)
        damaged[place] ^= 128
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.h5 is damaged, .*predict again"):
            LogitsFile(path)


def _with_three_ids(file):
    del file["sample_ids"]
    file["sample_ids"] = np.array([b"a", b"b", b"c"])


def _with_others_ids(file):
    del file["sample_ids"]
    file["sample_ids"] = h5py.ExternalLink("other.h5", "/sample_ids")


def _without_end(file):
    del file["sample_ids"]
    file.create_dataset("sample_ids", data=["a"] * 6, dtype=h5py.string_dtype())


def _with_a_billion_rows(file):
    for name, shape in (("labels", (10**9,)), ("logits", (10**9, 4)), ("sample_ids", (10**9,))):
        kind = file[name].dtype
        del file[name]
        file.create_dataset(name, shape, kind, chunks=(1000, *shape[1:]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with_three_ids, r"is damaged: labels is \('i', \(6,\)\), not \('i', \(3,\)\)"),
        (_with_others_ids, "sample_ids is a link"),
        (_without_end, "sample_ids is of variable length"),
        (_with_a_billion_rows, r"claims \d+,000,000,000 bytes and has 0"),
    ],
)
def test_files_made_to_deceive_are_refused(make_logits_file, logits, labels, change, message):
    path = make_logits_file("a.h5", logits, labels)
    with h5py.File(path, "r+") as file:
        change(file)
    seal(path)
    with pytest.raises(ValueError, match=message):
        LogitsFile(path)


def test_long_names_of_samples_come_back(make_logits_file, logits, labels):
    ids = ["a", "b" * 64, "字" * 100, "c", "d" * 900, ""]
    path = make_logits_file("a.h5", logits, labels, ids=ids)
    with LogitsFile(path) as file:
        assert file.sample_ids(ROWS) == ids


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused_with_their_sample(
    make_logits_file, logits, labels, value
):
    center = logits.copy()
    logits[4, 2], center[3, 1] = value, value
    with LogitsFile(make_logits_file("a.h5", logits, labels, center=center)) as file:
        for dataset, row in (("logits", 4), ("logits_center", 3)):
            file.logits(slice(0, row), dataset)
            with pytest.raises(ValueError, match=f"the {dataset} of sample test/{row} aren't fin"):
                file.logits(slice(2, 6), dataset)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_that_is_no_class_is_refused_with_its_sample(
    make_logits_file, logits, labels, label
):
    labels[3] = label
    with LogitsFile(make_logits_file("a.h5", logits, labels)) as file:
        file.labels(slice(0, 3))
        with pytest.raises(ValueError, match=f"label {label} of sample test/3 is no class"):
            file.labels(slice(1, 6))


# === Files that don't belong together ===


def test_files_of_the_same_samples_belong_together(make_logits_file, logits, labels):
    paths = [make_logits_file(f"{i}.h5", i * logits, labels) for i in range(3)]
    for some in (paths, paths[:1]):
        with open_same_samples(some) as files:
            assert [file.path for file in files] == some


ABOUT = {"ids": list("abcdef"), "characters": "一二三四"}


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"rows": 5, "ids": list("abcde")}, "hold different samples: 6 and 5 of them."),
        ({"ids": list("abcxef")}, "samples: number 3 is d in one and x in the other."),
        ({"ids": list("abdcef")}, "samples: number 2 is c in one and d in the other."),
        ({"label": 1}, "give sample e different labels."),
        ({"characters": "一二三五"}, "lacks 1 (四)"),
        ({"characters": "一三二四"}, "first differs in order at index 1 ('三' instead of '二')"),
    ],
)
def test_the_first_difference_is_named(make_logits_file, logits, labels, other, difference):
    a = make_logits_file("a.h5", logits, labels, **ABOUT)
    other = dict(other)
    rows = other.pop("rows", 6)
    labels[4] = other.pop("label", labels[4])
    b = make_logits_file("b.h5", logits[:rows], labels[:rows], **ABOUT | other)
    with pytest.raises(ValueError) as caught, open_same_samples([a, b]):
        pass
    message = str(caught.value)
    assert message.startswith(f"{a} and {b} ") and difference in message and "\n" not in message
    assert ("have different charsets: " in message) == ("characters" in other)
