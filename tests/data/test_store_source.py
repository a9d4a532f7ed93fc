import numpy as np
import pytest

from hccr_tf.charset import Charset
from hccr_tf.data.sources.gnt import write_gnt
from hccr_tf.data.store.prepare import prepare


@pytest.fixture
def stores(tmp_path, make_image):
    """Two stores with different characters, one image in common, and faults."""
    for name, characters, seed in (("Gnt1.0Train", "一丁七", 0), ("Gnt1.1Test", "丁A", 50)):
        folder = tmp_path / name
        folder.mkdir()
        for writer in range(3):
            images = [(c, make_image(seed + 10 * writer + k)) for k, c in enumerate(characters)]
            write_gnt(folder / f"{seed + writer}-f.gnt", images)
    shared = tmp_path / "Gnt1.1Test" / "99-f.gnt"
    write_gnt(shared, [("丁", make_image(1))])  # As written by 0-f in training.
    (tmp_path / "Gnt1.0Train" / "bad.gnt").write_bytes(b"\1\2\3")
    return [
        prepare([tmp_path / "Gnt1.0Train"], tmp_path / "a", validation_fraction=0.4),
        prepare([tmp_path / "Gnt1.1Test"], tmp_path / "b"),
    ]


def test_joined_stores_hold_all_samples_under_one_charset(stores, tmp_path):
    joined = prepare([s.path for s in stores], tmp_path / "joined")
    assert len(joined) == sum(map(len, stores))
    assert joined.charset == Charset.sorted("一丁七A")
    offset = 0
    for store in stores:
        for i in range(len(store)):
            k = offset + i
            assert joined.charset.char(joined.labels[k]) == store.charset.char(store.labels[i])
            assert joined.sample_id(k) == f"{store.path.name}/{store.sample_id(i)}"
            np.testing.assert_array_equal(joined.image(k), store.image(i))
            names = [s.manifest["writers"]["names"] for s in (joined, store)]
            assert names[0][joined.writers[k]] == names[1][store.writers[i]]
        offset += len(store)
    joined.verify()


def test_splits_faults_and_copies_come_along(stores, tmp_path):
    joined = prepare([s.path for s in stores], tmp_path / "joined")
    a, b = (store.manifest["counts"] for store in stores)
    counts = joined.manifest["counts"]
    assert counts["test"] == b["test"]
    # The image that stands in both: its training copy is held out now.
    assert counts["duplicate"] == 1
    assert counts["train"] + counts["validation"] == a["train"] + a["validation"] - 1
    assert joined.manifest["skipped"]["by_reason"] == {"truncated record": 1}
    assert joined.manifest["skipped"]["first"][0]["source"] == "a/Gnt1.0Train/bad.gnt"


def test_a_charset_leaves_out_and_counts_the_rest(stores, tmp_path):
    charset = Charset.from_text("丁一")
    store = prepare([s.path for s in stores], tmp_path / "cut", charset=charset)
    assert store.charset == charset
    assert set(store.labels.tolist()) == {0, 1}
    assert store.manifest["left_out"] == {"count": 6, "by_character": {"A": 3, "七": 3}}
    assert len(store) + 6 == sum(map(len, stores))
    assert "left out    6 samples of 2 characters" in store.summary()
    # The same from the sources themselves, in blocks.
    direct = prepare(
        [tmp_path / "Gnt1.0Train", tmp_path / "Gnt1.1Test"], tmp_path / "direct", charset=charset
    )
    assert direct.manifest["left_out"] == store.manifest["left_out"]
    assert [direct.image(i).tobytes() for i in range(len(direct))] == [
        store.image(i).tobytes() for i in range(len(store))
    ]
    records = ("0-f.gnt#0", "0-f.gnt#1", "1-f.gnt#0")
    assert direct.sample_ids([0, 1, 2]) == [f"Gnt1.0Train/{name}" for name in records]
    with pytest.raises(ValueError, match="outside of the charset"):
        prepare([tmp_path / "Gnt1.1Test"], tmp_path / "none", charset=Charset.from_text("宪"))


def test_a_stores_file_elsewhere_is_listed(stores, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "images-00000.bin").write_bytes(b"123")
    (folder / "1-f.gnt").write_bytes((tmp_path / "Gnt1.0Train" / "0-f.gnt").read_bytes())
    store = prepare([folder], tmp_path / "new")
    assert len(store) == 3
    assert store.manifest["skipped"]["by_reason"] == {"store's file outside of a store": 1}
