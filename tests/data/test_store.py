import errno
import json
import re

import numpy as np
import pytest
from disk import leftovers, put, rows
from resealed import reseal

from hccr_tf.charset import Charset
from hccr_tf.data.sources.gnt import write_gnt
from hccr_tf.data.store.format import array_file
from hccr_tf.data.store.prepare import prepare
from hccr_tf.data.store.store import Store
from hccr_tf.data.store.writer import ShardWriter
from hccr_tf.utils import progress


@pytest.fixture
def folder(tmp_path, make_image):
    """A repack-like folder with duplicates within and across splits and under two classes."""
    root = tmp_path / "repack"
    for k, character in enumerate("室宪A"):
        name = character.encode().decode("cp852")
        for n in range(20):
            put(root / "Train" / name / f"{n:02}.png", make_image(100 * k + n, 4 + n % 3, 5))
        for n in range(5):
            put(root / "Test" / name / f"{n}.png", make_image(100 * k + 50 + n))
    broken = root / "Train" / "宪".encode().decode("cp852")
    put(broken / "copy1.png", make_image(100, 4, 5))  # Twice in training.
    put(broken / "copy2.png", make_image(150))  # In training and test.
    put(root / "Train" / "A" / "copy3.png", make_image(1, 5, 5))  # Under two classes.
    (broken / "bad.png").write_bytes(b"")
    return root


@pytest.fixture
def gnt_file(tmp_path, make_image):
    path = tmp_path / "1001-f.gnt"
    write_gnt(path, [(c, make_image(i)) for i, c in enumerate("一丁七一丁七")])
    return path


@pytest.fixture
def store(folder, tmp_path):
    return prepare([folder], tmp_path / "store")


# === Content ===


def test_images_labels_and_ids_come_back(store, make_image):
    assert len(store) == 78
    assert store.charset == Charset.from_text("A室宪")
    index = store.sample_ids(range(len(store))).index("repack/Train/ň«¬/07.png")
    image = store.image(index)
    assert image.dtype == np.uint8 and not image.flags.writeable and not image.flags.owndata
    np.testing.assert_array_equal(image, make_image(107, 5, 5))
    assert store.charset.char(store.labels[index]) == "宪"
    assert (store.heights[index], store.widths[index]) == (5, 5)
    assert store.writers[index] == -1
    for i in range(len(store)):
        assert store.image(i).shape == (store.heights[i], store.widths[i])
    store.verify()


def test_splits_are_ascending_and_disjoint(store):
    parts = {name: store.indices(name) for name in ("train", "validation", "test", "duplicate")}
    for part in parts.values():
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(store)))
    assert store.manifest["counts"] == {name: len(part) for name, part in parts.items()}
    assert len(store.indices("all")) == len(store) - 1
    assert store.sample_ids(parts["duplicate"]) == ["repack/Train/ň«¬/copy2.png"]
    for name in ("training", "", "Test"):
        with pytest.raises(ValueError, match=rf"no samples in split '{name}'; it has train \("):
            store.indices(name)


def test_the_manifest_counts_and_the_lists_are_complete(store):
    m = store.manifest
    (conflict,) = m["duplicates"].pop("conflicting_first")
    counts = {"groups": 3, "extra_copies": 3, "groups_across_splits": 1, "held_out": 1}
    assert m["duplicates"] == {**counts, "conflicting_groups": 1}
    assert {(c["character"], c["sample_id"]) for c in conflict} == {
        ("A", "repack/Train/A/copy3.png"),
        ("室", "repack/Train/ň«Ą/01.png"),
    }
    assert m["repaired_names"]["code_pages"] == {"cp852": 2}
    assert m["skipped"]["by_reason"] == {"empty file": 1}
    assert m["skipped"]["first"][0]["source"] == "repack/Train/ň«¬/bad.png"
    assert sum(sum(c.values()) for c in m["counts_per_class"].values()) == 78
    assert m["sources"][0]["num_files"] == 79
    assert len(rows(store.path / "duplicates.csv")) == 6
    assert rows(store.path / "skipped.csv")[0]["reason"] == "empty file"
    assert {r["character"] for r in rows(store.path / "repaired_names.csv")} == {"室", "宪"}
    text = Store(store.path).summary()
    for words in ("78 in 3 classes", "held out", "cp852 2", "empty file: 1", "ň«¬/bad.png"):
        assert words in text


def test_writers_and_several_sources(gnt_file, tmp_path, make_image):
    other = tmp_path / "other" / "1001-f.gnt"  # The same name in another folder.
    other.parent.mkdir()
    write_gnt(other, [("丁", make_image(9))])
    third = tmp_path / "1002-f.gnt"
    write_gnt(third, [("七", make_image(10))])
    store = prepare([gnt_file, other, third], tmp_path / "store", split="writer")
    assert store.manifest["writers"]["names"] == ["1001-f", "1002-f"]
    assert store.manifest["split"]["mode"] == "writer"
    ids = store.sample_ids(range(len(store)))
    assert len(set(ids)) == 8
    assert ids[-1] == "1002-f.gnt#0"
    assert ids[6].endswith("other/1001-f.gnt#0")


def test_a_store_of_test_images_only(folder, tmp_path):
    store = prepare([folder / "Test"], tmp_path / "store")
    assert len(store.indices("test")) == 15
    with pytest.raises(ValueError, match=r"no samples in split 'train'; it has test \(15\)"):
        store.indices("train")


def test_the_same_input_gives_the_same_store(folder, tmp_path):
    a, b = (prepare([folder], tmp_path / name) for name in ("a", "b"))
    assert a.data_hash == b.data_hash
    for name in [*a.manifest["files"], "manifest.json"]:
        assert (a.path / name).read_bytes() == (b.path / name).read_bytes()
    other_seed = prepare([folder], tmp_path / "c", seed=2)
    assert other_seed.data_hash != a.data_hash


# === Damage ===


def test_missing_short_and_changed_files(store):
    path = store.path
    images, labels, manifest = (
        path / "images-00000.bin",
        path / "labels.npy",
        path / "manifest.json",
    )
    data, text = images.read_bytes(), manifest.read_text("utf-8")
    images.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    first = re.escape(store.sample_id(0))
    with pytest.raises(ValueError, match=rf"images-00000\.bin changed in 1 images \({first}"):
        Store(path).verify()
    images.write_bytes(data[:-1])
    with pytest.raises(ValueError, match=rf"has {len(data) - 1} bytes instead of {len(data)}"):
        Store(path)
    images.write_bytes(data)
    array = labels.read_bytes()
    labels.write_bytes(array[:-1] + bytes([array[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"labels\.npy changed; make the store again"):
        Store(path).verify()
    labels.unlink()
    with pytest.raises(FileNotFoundError, match=r"incomplete: labels\.npy"):
        Store(path)
    labels.write_bytes(array)
    for old, new, message in (
        ("A室宪", "A宪室", "altered"),
        ("store 2", "store 9", "store 9"),
        ('"skipped":', '"quarantined":', r"manifest\.json lacks skipped; make the store again"),
        (store.data_hash, "0" * 64, "data_hash does not fit"),
    ):
        manifest.write_text(text.replace(old, new), "utf-8")
        with pytest.raises(ValueError, match=message):
            Store(path).verify()
    manifest.unlink()
    with pytest.raises(FileNotFoundError, match="is no store"):
        Store(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("offsets", -(2**33), "row 2 is -8589934592, outside of 0 to "),
        ("offsets", -5, "row 2 is -5, outside of 0 to "),
        ("offsets", 2**40, "row 2 is 1099511627776, outside of 0 to "),
        ("heights", 60_000, r"offsets\.npy: row 2 is \d+, outside of 0 to -"),
        ("widths", 0, "row 2 is 0, outside of 1 to 65535"),
        ("labels", -1, "row 2 is -1, outside of 0 to "),
        ("labels", 10_000, "row 2 is 10000, outside of 0 to "),
        ("split", 4, "row 2 is 4, outside of 0 to 3"),
        ("shards", -1, r"parts\.npy: row 2 is -1, outside of 0 to"),
        ("shards", 5, r"parts\.npy: row 2 is -5, outside of 0 to"),
        ("writers", -2, "row 2 is -2, outside of -1 to"),
        ("ids_offsets", -1, "row 2 is -1, outside of 0 to"),
        ("ids_offsets", 2**40, "row 2 is 1099511627776, outside of 0 to"),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(store, name, value, message):
    """With checksums that are right: memory is read where the index says."""
    path = store.path / array_file(name)
    array = np.load(path)
    array[2] = value
    np.save(path, array)
    reseal(store.path)
    with pytest.raises(ValueError, match=message):
        Store(store.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(num_samples=-1), "num_samples is -1, not a number from 0"),
        (
            lambda m: m["files"].update({"../x": {"num_bytes": 1}}),
            r"files.name is '\.\./x', not the",
        ),
        (lambda m: m["files"].pop("labels.npy"), r"lacks files\.labels\.npy"),
        (lambda m: m["files"]["labels.npy"].pop("num_bytes"), "labels.npy.num_bytes"),
        (lambda m: m["writers"].pop("names"), r"lacks writers\.names"),
        (lambda m: m["skipped"].update(by_reason=[]), r"skipped\.by_reason is \[\], not an object"),
        (lambda m: m["charset"].update(characters=["A"]), r"charset\.characters is \['A'\]"),
        (lambda m: m.update(data_hash=None), "data_hash is None, not a text"),
    ],
)
def test_every_part_of_the_manifest_is_named(store, change, message):
    file = store.path / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    change(manifest)
    file.write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(ValueError, match=rf"manifest\.json.*{message}.*hccr data prepare"):
        Store(store.path)


# === Writing ===


def test_refusals_say_what_to_do(folder, gnt_file, tmp_path):
    out = tmp_path / "store"
    bad = tmp_path / "bad.gnt"
    bad.write_bytes(b"\x01\x02\x03")
    with pytest.raises(FileNotFoundError, match="missing does not exist"):
        prepare([tmp_path / "missing"], out)
    for sources, target, arguments, message in (
        ([], out, {}, "no source"),
        ([folder, folder], out, {}, "twice"),
        ([folder], folder / "store", {}, "lies inside"),
        ([folder], out, {"split": "random"}, "No split is called 'random'"),
        ([bad], out, {}, "no readable sample.*truncated record: 1"),
        ([folder], out, {"split": "writer"}, "without a writer"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(sources, target, **arguments)
        assert not target.exists()
    assert not leftovers(tmp_path)


def test_overwriting_takes_a_word_and_a_store(folder, gnt_file, tmp_path):
    out = tmp_path / "store"
    first = prepare([folder], out)
    with pytest.raises(FileExistsError, match="--overwrite"):
        prepare([gnt_file], out)
    assert Store(out).data_hash == first.data_hash
    second = prepare([gnt_file], out, overwrite=True)
    assert len(second) == 6
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="is no store"):
        prepare([gnt_file], precious, overwrite=True)
    assert (precious / "letter.txt").read_text() == "dear"
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")]
)
def test_a_failure_in_the_middle_changes_nothing(
    folder, gnt_file, tmp_path, monkeypatch, earlier, error
):
    out = tmp_path / "store"
    if earlier:
        prepare([gnt_file], out)
    add, calls = ShardWriter.add, iter(range(30))

    def failing(self, record):
        if next(calls, None) is None:
            raise error
        add(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "add", failing)
        message = "disk is full.*Free some space" if isinstance(error, OSError) else None
        with pytest.raises(type(error), match=message):
            prepare([folder], out, overwrite=True)
    assert out.exists() == earlier
    if earlier:
        Store(out).verify()
        assert len(Store(out)) == 6
    assert len(prepare([folder], out, overwrite=True)) == 78
    assert not leftovers(tmp_path)


def test_a_progress_bar_is_for_terminals(folder, tmp_path, monkeypatch, capfd):
    prepare([folder], tmp_path / "silent")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    prepare([folder], tmp_path / "store")
    assert "reading" in capfd.readouterr().err


# === Real data ===


def test_real_archives(hwdb100, tmp_path):
    paths = [hwdb100 / "CASIA-HWDB_Test.zip", hwdb100 / "hwdb100-gnt.zip"]
    store = prepare(paths, tmp_path / "store")
    assert (len(store), len(store.charset)) == (6878, 100)
    assert store.manifest["split"]["mode"] == "shuffle"
    assert sorted(store.manifest["writers"]["names"]) == [f"{i}-s" for i in range(901, 913)]
    assert store.manifest["repaired_names"]["code_pages"] == {"cp852": 100}
    assert store.manifest["skipped"]["count"] == 0
    assert all(image.max() > 200 for image in store.images(np.arange(len(store))))
    store.verify()
    ids = store.sample_ids(range(len(store)))
    assert ids[0] == "CASIA-HWDB_Test.zip/Test/ň«¬/2.png"
    assert ids[-1] == "hwdb100-gnt.zip/912-s.gnt#99"
    for name in ("train", "validation", "test"):
        assert len(np.unique(store.labels[store.indices(name)])) > 80
    assert all(np.bincount(store.labels) >= 33)
