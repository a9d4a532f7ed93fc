"""Stores that draw their images when they're asked for."""

import json

import numpy as np
import pytest

from hccr_tf.charset import Charset
from hccr_tf.cli.main import main
from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.loader import Loader
from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.data.opening import open_dataset
from hccr_tf.data.store.store import Store
from hccr_tf.synthesis.dataset import StrokeDataset, make_stroke_store
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.synthesis.style import HandwritingStyle

SOURCE = {"name": "embedded", "sha256": "0" * 64}


@pytest.fixture
def store(tmp_path):
    sizes = {"per_class": 3, "held_out": 2}
    return make_stroke_store(load_strokes(), tmp_path / "strokes", source=SOURCE, **sizes)


def _reader(store, split="train", **options):
    preprocessing = Preprocessing(32, fit="pad", crop_ink=True)
    return Loader(store, split, preprocessing, 8, **options)


def test_splits_are_apart_and_cover_every_class(store):
    parts = {name: store.indices(name) for name in ("train", "validation", "test")}
    assert [len(p) for p in parts.values()] == [45, 30, 30] and len(store) == 105
    together = np.concatenate(list(parts.values()))
    assert len(set(together.tolist())) == 105
    for part in parts.values():
        assert set(store.labels_for(store.charset, part)) == set(range(15))
    later = store.at_epoch(parts["train"], 4)
    assert not set(later.tolist()) & set(together.tolist())
    labels = store.labels_for(store.charset, parts["train"])
    assert np.array_equal(store.labels_for(store.charset, later), labels)
    for name in ("validation", "test"):
        assert np.array_equal(store.at_epoch(parts[name], 4), parts[name])
    with pytest.raises(ValueError, match="no images in split 'trian'; it has train, validation"):
        store.indices("trian")


def test_common_characters_are_drawn_as_many_times_as_asked(tmp_path):
    strokes = dict.fromkeys("一丌", load_strokes()["一"])  # of levels 1 and 2
    sizes = {"per_class": 5, "held_out": 2, "common": 3}
    store = make_stroke_store(strokes, tmp_path / "strokes", source=SOURCE, **sizes)
    common = store.charset.text.index("一")
    for split, each in {"train": 5, "validation": 2, "test": 2}.items():
        indices = store.indices(split)
        for epoch in (0, 3):
            labels = store.class_indices(store.at_epoch(indices, epoch))
            assert (labels == common).sum() == 3 * each and (labels != common).sum() == each
    later = store.at_epoch(store.indices("train"), 1)
    assert not np.isin(later, store.indices("all")).any()
    assert "level 1 3 times as many" in store.summary()
    with pytest.raises(ValueError, match="common 1 to 100"):
        make_stroke_store(strokes, tmp_path / "none", source=SOURCE, common=0)


def test_training_images_are_new_in_every_epoch(store):
    reader = _reader(store, shuffle=True, seed=1)
    first, second, again = (
        {image.tobytes() for batch in reader.batches(epoch) for image in batch.images}
        for epoch in (0, 1, 0)
    )
    assert len(first) == len(second) == 45 and not first & second and again == first
    validation = _reader(store, "validation")
    for one, other in zip(validation.batches(0), validation.batches(3), strict=True):
        assert np.array_equal(one.images, other.images)


def test_images_are_those_of_their_numbers(store):
    reader = _reader(store, shuffle=True, seed=1)
    batch = reader.batch(2, 1)
    prepared = reader.preprocessing.apply_many(store.images(batch.indices))
    assert np.array_equal(batch.images, prepared)
    assert [store.charset.char(int(label)) for label in batch.labels] == [
        name[0] for name in store.sample_ids(batch.indices)
    ]


@pytest.mark.integration
def test_processes_draw_the_same(store):
    reader = _reader(store, shuffle=True, seed=1, augmentation=RandomAffine(0.1, 0.05))
    alone = [batch.images for batch in reader.batches(3)]
    with reader.processes(2):
        beside = [batch.images for batch in reader.batches(3)]
    assert len(alone) == len(beside) and all(map(np.array_equal, alone, beside))


def test_what_a_store_is_made_of_is_in_its_hash(store, tmp_path):
    def made(name, **options):
        options = {"source": SOURCE, "per_class": 3, "held_out": 2} | options
        return make_stroke_store(load_strokes(), tmp_path / name, **options).data_hash

    assert made("same") == store.data_hash
    others = [
        made("a", seed=2),
        made("b", variation=HandwritingStyle(bend=0.1)),
        made("c", per_class=4),
        made("e", common=2),
        made("d", charset=Charset.from_text("一二三")),
    ]
    assert len({store.data_hash, *others}) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": 1}, "was altered"),
        ({"version": 3}, "drew otherwise; make it again"),
        ({"format": "other"}, "has the format 'other'"),
    ],
)
def test_stores_of_another_kind_are_refused(store, change, message):
    path = store.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        StrokeDataset(store.path)


def test_damaged_stores_are_refused(store):
    lines = store.path / "lines.npy"
    data = bytearray(lines.read_bytes())
    data[-1] ^= 1
    lines.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="lines.npy changed"):
        StrokeDataset(store.path).verify()
    lines.write_bytes(bytes(data[:-8]))
    with pytest.raises(ValueError, match="lines.npy has .* bytes instead of"):
        StrokeDataset(store.path)
    lines.unlink()
    with pytest.raises(FileNotFoundError, match="lines.npy is missing"):
        StrokeDataset(store.path)


def test_open_store_tells_kinds_apart(store, sample_store, tmp_path):
    assert isinstance(open_dataset(store.path), StrokeDataset)
    assert isinstance(open_dataset(sample_store.path), Store)
    with pytest.raises(FileNotFoundError, match="no store"):
        open_dataset(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a store of strokes, .*give a store of images"):
        Store(store.path)


def test_characters_without_strokes_are_named(tmp_path):
    charset = Charset.from_text("一永")
    with pytest.raises(ValueError, match="no strokes for 1 of 2 characters: 永"):
        make_stroke_store(load_strokes(), tmp_path / "s", source=SOURCE, charset=charset)


def test_command(tmp_path, capsys):
    file = tmp_path / "medians.json"
    level, upright = [[120, 400], [900, 420]], [[500, 800], [510, 0]]
    file.write_text(json.dumps({"一": [level], "十": [level, upright]}))
    out = tmp_path / "strokes"
    command = ["data", "strokes", str(file), "--charset", "all", "--out", str(out)]
    assert main([*command, "--per-class", "5", "--style.bend", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "3 centre lines of 2 characters" in printed and "sheet" in printed
    assert (tmp_path / "strokes-sheet.png").exists()
    store = open_dataset(out)
    assert store.variation.bend == 0.05 and store.per_class == 5
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert main(["data", "show", str(out)]) == 0
    assert "drawn when asked for" in capsys.readouterr().out
    assert main([*command[:-2], "--out", str(tmp_path / "b"), "--style.bent", "1"]) == 2
    assert "Did you mean --style.bend" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    assert main([*command[:-1], str(tmp_path / "other"), "--overwrite"]) == 2
