import json

import h5py
import numpy as np
import pytest

from hccr_tf.charset import Charset
from hccr_tf.inference.logits_file import LogitsFile, check_same_samples, write_logits
from hccr_tf.papers.recipes import get_recipe

CHARSET = Charset.from_text("一二三四")
ROWS = slice(None)


@pytest.fixture
def logits():
    return np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


@pytest.fixture
def labels():
    return np.array([0, 3, 1, 2, 2, 0], np.int32)


def leftovers(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


# === Format ===


def test_datasets_and_attributes_of_the_file(tmp_path, logits, labels):
    path = tmp_path / "new" / "logits.h5"
    recipe = get_recipe("kriuk_model2").to_dict()
    attributes = {"recipe": recipe, "split": "test", "crops": "five", "blur": True}
    ids = [f"字/{i}.png" for i in range(6)]
    with write_logits(path, 6, CHARSET, attributes, center=True) as writer:
        writer.add(labels, ids, logits, -logits)
    with h5py.File(path) as file:
        assert sorted(file) == ["labels", "logits", "logits_center", "sample_ids"]
        assert (file["logits"].dtype, file["logits"].shape) == (np.float32, (6, 4))
        assert (file["logits_center"].dtype, file["logits_center"].shape) == (np.float32, (6, 4))
        assert (file["labels"].dtype, file["labels"].shape) == (np.int32, (6,))
        np.testing.assert_array_equal(file["logits"], logits)
        np.testing.assert_array_equal(file["logits_center"], -logits)
        np.testing.assert_array_equal(file["labels"], labels)
        assert file["sample_ids"].asstr()[()].tolist() == ids
        assert file.attrs["charset"] == "一二三四"
        assert file.attrs["charset_sha256"] == CHARSET.sha256
        assert file.attrs["split"] == "test" and file.attrs["crops"] == "five"
        assert bool(file.attrs["blur"]) is True
        assert json.loads(file.attrs["recipe"]) == json.loads(json.dumps(recipe))


def test_what_is_written_is_read(make_logits_file, logits, labels):
    path = make_logits_file("a.h5", logits, labels, center=2 * logits, split="test")
    with LogitsFile(path) as file:
        assert len(file) == 6
        assert file.datasets == ["logits", "logits_center"]
        assert file.charset.text == "零一二三"
        assert file.attributes["split"] == "test"
        np.testing.assert_array_equal(file.logits(slice(2, 5)), logits[2:5])
        np.testing.assert_array_equal(file.logits(ROWS, "logits_center"), 2 * logits)
        np.testing.assert_array_equal(file.labels(slice(1, 3)), labels[1:3])
        assert file.sample_ids(slice(4, 6)) == ["test/4", "test/5"]


def test_writing_in_pieces_equals_writing_at_once(make_logits_file, tmp_path, logits, labels):
    whole = make_logits_file("whole.h5", logits, labels)
    ids = [f"test/{i}" for i in range(6)]
    charset = Charset.from_text("零一二三")
    with write_logits(tmp_path / "pieces.h5", 6, charset, {}) as writer:
        for start, end in ((0, 4), (4, 5), (5, 6)):
            writer.add(labels[start:end], ids[start:end], logits[start:end])
    with LogitsFile(tmp_path / "pieces.h5") as a, LogitsFile(whole) as b:
        np.testing.assert_array_equal(a.logits(ROWS), b.logits(ROWS))
        np.testing.assert_array_equal(a.labels(ROWS), b.labels(ROWS))
        assert a.sample_ids(ROWS) == b.sample_ids(ROWS)


def test_reading_in_pieces_covers_every_row_once(make_logits_file):
    characters = "".join(chr(0x4E00 + i) for i in range(3000))
    logits = np.zeros((6000, 3000), np.float32)
    path = make_logits_file("a.h5", logits, np.zeros(6000, np.int32), characters=characters)
    with LogitsFile(path) as file:
        chunks = list(file.chunks())
    assert len(chunks) == 3
    assert [c.start for c in chunks] == [0, *(c.stop for c in chunks[:-1])]
    assert chunks[-1].stop == 6000
    assert all(4 * 3000 * (c.stop - c.start) <= 32 << 20 for c in chunks)


# === Atomic ===


def test_nothing_is_left_of_a_failed_write(tmp_path, logits, labels):
    path = tmp_path / "logits.h5"
    with pytest.raises(KeyboardInterrupt), write_logits(path, 6, CHARSET, {}) as writer:
        writer.add(labels[:2], ["a", "b"], logits[:2])
        assert not path.exists()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_the_earlier_file_outlives_a_failed_write(make_logits_file, logits, labels):
    path = make_logits_file("a.h5", logits, labels)
    data = path.read_bytes()
    with pytest.raises(OSError, match="disk"), write_logits(path, 6, CHARSET, {}):
        raise OSError("disk")
    assert path.read_bytes() == data
    assert not leftovers(path.parent)


@pytest.mark.parametrize("count", [0, 5])
def test_rows_that_were_promised_must_come(tmp_path, logits, labels, count):
    path = tmp_path / "logits.h5"
    ids = [str(i) for i in range(count)]
    with (
        pytest.raises(ValueError, match=f"got {count} samples, not 6"),
        write_logits(path, 6, CHARSET, {}) as writer,
    ):
        writer.add(labels[:count], ids, logits[:count])
    assert not list(tmp_path.iterdir())


# === Refusals ===


def open_broken(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ValueError) as caught:
        LogitsFile(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="There is no logits file .*none.h5; a predictor writes"):
        LogitsFile(tmp_path / "none.h5")


def test_no_hdf5_file(tmp_path):
    (tmp_path / "a.h5").write_text("1,2,3")
    with pytest.raises(ValueError, match=r"a\.h5 is no readable HDF5 file"):
        LogitsFile(tmp_path / "a.h5")


def test_what_is_missing_is_named(make_logits_file, logits, labels):
    def change(file):
        del file["labels"]
        del file.attrs["charset"]

    message = open_broken(make_logits_file("a.h5", logits, labels), change)
    assert "no logits file; it lacks labels, charset." in message


def test_a_charset_that_was_changed(make_logits_file, logits, labels):
    def change(file):
        file.attrs["charset"] = "一零二三"

    message = open_broken(make_logits_file("a.h5", logits, labels), change)
    assert "its charset doesn't fit its own hash" in message


def test_datasets_that_do_not_fit_one_another(make_logits_file, logits, labels):
    def change(file):
        del file["logits"]
        file["logits"] = logits[:5]

    message = open_broken(make_logits_file("a.h5", logits, labels), change)
    assert "logits is (5, 4), not (6, 4)" in message


def test_no_samples(tmp_path):
    with write_logits(tmp_path / "a.h5", 0, CHARSET, {}):
        pass
    with pytest.raises(ValueError, match=r"a\.h5 holds no samples"):
        LogitsFile(tmp_path / "a.h5")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dataset", ["logits", "logits_center"])
def test_logits_that_are_not_finite_are_refused_with_their_sample(
    make_logits_file, logits, labels, value, dataset
):
    values = {"logits": logits.copy(), "logits_center": logits.copy()}
    values[dataset][4, 2] = value
    path = make_logits_file("a.h5", values["logits"], labels, center=values["logits_center"])
    with LogitsFile(path) as file:
        file.logits(slice(0, 4), dataset)
        with pytest.raises(ValueError, match=f"the {dataset} of sample test/4 aren't finite"):
            file.logits(slice(3, 6), dataset)


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


def refusal(*paths):
    files = [LogitsFile(path) for path in paths]
    try:
        with pytest.raises(ValueError) as caught:
            check_same_samples(files)
    finally:
        for file in files:
            file.close()
    message = str(caught.value)
    assert "\n" not in message
    for path in (paths[0], paths[-1]):
        assert str(path) in message
    return message


def test_files_of_the_same_samples_belong_together(make_logits_file, logits, labels):
    paths = [make_logits_file(f"{i}.h5", i * logits, labels) for i in range(3)]
    files = [LogitsFile(path) for path in paths]
    check_same_samples(files)
    check_same_samples(files[:1])
    for file in files:
        file.close()


def test_another_number_of_samples(make_logits_file, logits, labels):
    a = make_logits_file("a.h5", logits, labels)
    b = make_logits_file("b.h5", logits[:5], labels[:5])
    assert "hold different samples: 6 and 5 of them." in refusal(a, a, b)


def test_other_samples(make_logits_file, logits, labels):
    a = make_logits_file("a.h5", logits, labels, ids=list("abcdef"))
    b = make_logits_file("b.h5", logits, labels, ids=list("abcxef"))
    assert "different samples: number 3 is d in one and x in the other." in refusal(a, b)


def test_another_order_of_the_samples(make_logits_file, logits, labels):
    a = make_logits_file("a.h5", logits, labels, ids=list("abcdef"))
    b = make_logits_file("b.h5", logits, labels, ids=list("abdcef"))
    assert "number 2 is c in one and d in the other." in refusal(a, b)


def test_other_labels(make_logits_file, logits, labels):
    a = make_logits_file("a.h5", logits, labels)
    labels[4] = 1
    b = make_logits_file("b.h5", logits, labels)
    assert "give sample test/4 different labels." in refusal(a, b)


def test_another_charset(make_logits_file, logits, labels):
    a = make_logits_file("a.h5", logits, labels, characters="一二三四")
    b = make_logits_file("b.h5", logits, labels, characters="一二三五")
    message = refusal(a, b)
    assert "have different charsets: " in message
    assert "lacks 1 (四)" in message and "adds 1 (五)" in message


def test_another_order_of_the_charset(make_logits_file, logits, labels):
    a = make_logits_file("a.h5", logits, labels, characters="一二三四")
    b = make_logits_file("b.h5", logits, labels, characters="一三二四")
    assert "first differs in order at index 1 ('三' instead of '二')" in refusal(a, b)
