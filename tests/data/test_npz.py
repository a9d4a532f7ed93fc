import io

import cv2
import numpy as np
import pytest
from disk import pack
from photographs import on_paper

from hccr_tf.charset import Charset
from hccr_tf.data.sources.labels import Labels
from hccr_tf.data.store.prepare import prepare

CHARACTERS = "五九七"


@pytest.fixture
def images():
    """uint8 (6, 64, 64): two of each character, dark ink on white."""
    drawn = [on_paper(c, margin=8, seed=s) for c in CHARACTERS for s in (1, 2)]
    return np.stack([cv2.resize(image, (64, 64)) for image in drawn])


LABELS = np.repeat(np.arange(3), 2)


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: 255 - x,
        lambda x: (x / 255).astype(np.float32),
        lambda x: x[..., None],
        lambda x: np.repeat(x[..., None], 3, axis=3),
    ],
    ids=["dark", "light", "float", "channel", "RGB"],
)
def test_images_of_any_polarity_and_type(tmp_path, images, change):
    path = save(tmp_path / "some.npz", x_train=change(images), y_train=LABELS)
    store = prepare(path, tmp_path / "store", charset=Charset.from_text(CHARACTERS))
    assert store.charset.text == CHARACTERS and store.labels.tolist() == LABELS.tolist()
    np.testing.assert_allclose(np.stack(store.images(np.arange(6))), images, atol=1)


def test_splits_and_names_of_arrays(tmp_path, images):
    path = save(
        tmp_path / "some.npz",
        **{
            "x_train": images[:4],
            "y_train": LABELS[:4],
            "x_test": images[4:],
            "y_test": LABELS[4:],
        },
    )
    archive = pack(tmp_path / "a.zip", {"in/some.npz": path.read_bytes()})
    store = prepare(archive, tmp_path / "store", charset=Charset.from_text(CHARACTERS))
    assert store.manifest["counts"]["test"] == 2
    assert store.sample_id(5) == "a.zip/in/some.npz/x_test#1"
    path = save(tmp_path / "named.npz", images=images, labels=np.array(list("五五九九七七")))
    assert prepare(path, tmp_path / "named").charset.text == "七九五"
    path = save(tmp_path / "numbered.npz", images=images, labels=LABELS)
    (tmp_path / "labels.txt").write_text("\n".join(CHARACTERS), encoding="utf-8")
    store = prepare(path, tmp_path / "numbered", labels=tmp_path / "labels.txt")
    assert store.charset.text == "七九五" and Labels(tmp_path / "labels.txt").of_number[2] == "七"


@pytest.mark.parametrize(
    ("arrays", "charset", "words"),
    [
        ({"y": LABELS}, None, r"labels 0 to 2, and no character for 0.*--charset.*--labels"),
        ({"y": LABELS}, "五九", r"labels 0 to 2, and no character for 2"),
        ({"y": LABELS[:4]}, "五九七", r"not x uint8 \(6, 64, 64\), y int64 \(4,\)"),
        ({"y": LABELS / 2}, "五九七", r"y float64 \(6,\)"),
        ({"y": np.array(["五", "九", "七", "五九", "五", "五"])}, None, "no character for 五九"),
        ({"y": LABELS, "x": np.full((6, 2, 2), 1000)}, "五九七", r"not x int64 \(6, 2, 2\)"),
    ],
)
def test_what_is_missing_is_asked_for(tmp_path, images, arrays, charset, words):
    save(tmp_path / "some.npz", **{"x": images, **arrays})
    charset = charset and Charset.from_text(charset)
    with pytest.raises(ValueError, match=rf"some\.npz.*{words}"):
        prepare(tmp_path / "some.npz", tmp_path / "store", charset=charset)


def test_damaged_files_are_skipped(tmp_path, images, read_kinds):
    save(tmp_path / "some.npz", x=images, y=LABELS)
    data = (tmp_path / "some.npz").read_bytes()
    flipped = bytearray(data)
    flipped[500] ^= 8
    for content in (data[:100], b"", bytes(flipped)):
        (tmp_path / "some.npz").write_bytes(content)
        _, skipped, _ = read_kinds(tmp_path)
        assert [s.reason for s in skipped] == ["array file that cannot be read"]
    np.savez(stream := io.BytesIO(), x=images, y=np.array(list(CHARACTERS * 2), object))
    (tmp_path / "some.npz").write_bytes(stream.getvalue())
    _, skipped, _ = read_kinds(tmp_path)
    assert [s.reason for s in skipped] == ["array file that cannot be read"]
