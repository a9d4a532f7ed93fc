import cv2
import numpy as np
import pytest

from hccr_tf.data.sources.gnt import write_gnt
from hccr_tf.data.store.prepare import prepare
from hccr_tf.data.store_sheet import store_sheet
from hccr_tf.images.contact_sheet import draw_sheet, text_image


def ink(image):
    return int((image < 128).sum())


def edge(image):
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def test_text_is_drawn_and_differs():
    drawn = {text: text_image(text, 32) for text in ("我", "们", "A", "我们")}
    for image in drawn.values():
        assert image.dtype == np.uint8 and image.ndim == 2
        assert ink(image) > 20 and edge(image).min() == 255  # nothing is cut off
    assert len({image.shape[0] for image in drawn.values()}) == 1
    assert drawn["我们"].shape[1] > drawn["我"].shape[1]
    assert (drawn["我"] != drawn["们"]).any()


def test_text_of_every_size_fits():
    for size in (8, 13, 22, 60):
        assert edge(text_image("ÅgjpqÄ|龘（）", size, margin=3)).min() > 200
    assert ink(text_image("", 20)) == 0
    with pytest.raises(ValueError):
        text_image("我", 0)


def test_sheet_shows_images_at_their_places(tmp_path):
    black, white = np.zeros((30, 30), np.uint8), np.full((90, 20), 255, np.uint8)
    path = tmp_path / "sheet.png"
    sheet = draw_sheet([black, white, None, black], ["一", "long text", "", "A"], path, columns=2)
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), sheet)
    upper, lower = np.array_split(sheet, 2)
    quarters = [*np.array_split(upper, 2, axis=1), *np.array_split(lower, 2, axis=1)]
    assert [ink(q) > 72 * 72 for q in quarters] == [True, False, False, True]
    assert ink(quarters[2]) == 0


def test_sheet_refuses_what_it_cannot_draw(tmp_path):
    path = tmp_path / "sheet.png"
    image = np.zeros((3, 3), np.uint8)
    wrong = [image.astype(np.float32)], [np.zeros((3, 3, 2), np.uint8)]
    for images, texts in (([], []), ([image], []), *((images, ["a"]) for images in wrong)):
        with pytest.raises(ValueError):
            draw_sheet(images, texts, path)
    assert not path.exists()


def test_sheet_of_a_store(tmp_path, make_image):
    write_gnt(tmp_path / "a.gnt", [(c, make_image(i)) for i, c in enumerate("一丁七丁丁一")])
    store = prepare([tmp_path / "a.gnt"], tmp_path / "store", split="shuffle", test_fraction=0)
    path = tmp_path / "sheet.png"
    first = store_sheet(store, path, rows=2, columns=3)
    assert path.is_file()
    np.testing.assert_array_equal(first, store_sheet(store, path, rows=2, columns=3))
    assert store_sheet(store, path, rows=3, columns=3).shape[0] > first.shape[0]
    for bad in ({"rows": 0}, {"rows": 21}, {"columns": 0}, {"split": "test"}):
        with pytest.raises(ValueError):
            store_sheet(store, path, **bad)


def test_a_sheet_with_an_rgb_image_is_in_colour(tmp_path):
    red, grey = np.zeros((20, 20, 3), np.uint8), np.full((20, 20), 100, np.uint8)
    red[..., 0] = 250
    path = tmp_path / "sheet.png"
    sheet = draw_sheet([red, grey], ["红", "灰"], path, columns=2)
    assert sheet.ndim == 3
    colours = {tuple(c) for c in sheet.reshape(-1, 3)}
    assert (250, 0, 0) in colours and (100, 100, 100) in colours
    # On the disk too: OpenCV reads blue first.
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], sheet)
