import json
import pickle

import cv2
import pytest

from hccr_tf.data.sources.labels import Labels
from hccr_tf.data.store.prepare import prepare


@pytest.fixture
def read(tmp_path):
    """A function that writes a file of labels and reads it."""

    def read(content: str | bytes, name: str = "labels.csv") -> Labels:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return Labels(tmp_path / name)

    return read


DICTIONARY = {"永": 0, "字": 1, "八": 2}


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(DICTIONARY, ensure_ascii=False),
        json.dumps({number: character for character, number in DICTIONARY.items()}),
        json.dumps(list(DICTIONARY)),
        "永\n字\n八\n",
        "0 永\n1 字\n2 八\n",
        "永\t00000\r\n字\t00001\r\n八\t00002\r\n",
        "\ufeffnumber,code\n0,6c38\n1,5b57\n2,516b\n",
        "number,character,pinyin\n0,永,yong\n1,字,zi\n2,八,ba\n".encode("gbk"),
        *(pickle.dumps(DICTIONARY, protocol) for protocol in range(5)),
        pickle.dumps(list(DICTIONARY)),
    ],
)
def test_dictionaries_of_numbers(read, content):
    labels = read(content)
    assert labels.of_number == {0: "永", 1: "字", 2: "八"}
    assert labels.of("00001/7.png", "numbered/00001/7.png") == "字"
    # A number that the dictionary lacks isn't looked for in the file's own name.
    assert labels.of("00003/1.png", "numbered/00003/1.png") is None


def test_nothing_in_a_pickle_is_run(read, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "made"), "w")

    with pytest.raises(ValueError, match="labels.csv"):
        read(pickle.dumps(Evil()))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("path,label\nimages/1.png,永\nimages/2.png,字\n", "images/2.png"),
        ("images/1.png;永\nimages/2.png;字\n", "images/2.png"),
        ("id\tfile\tsplit\ttext\n7\tC:\\a\\1.png\ttest\t永\n8\tC:\\a\\2.png\ttest\t字\n", "2.png"),
        ("./images/1.png,永\n./images/2.png,字\n", "images/2.png"),
        ("id,label\n0001,永\n0002,字\n", "0002.png"),
        ("scan_1,永\nscan_2,字\n", "x/scan_2.jpg"),
        ("class_1,永\nclass_2,字\n", "class_2/9.png"),
        (json.dumps({"1.png": "永", "2.png": "字"}), "2.png"),
    ],
)
def test_paths(read, content, name):
    assert read(content).of(name, f"source/{name}") == "字"
    other = name.replace("2", "3")
    assert read(content).of(other, f"source/{other}") is None


def test_a_row_of_another_folder_is_not_taken(read):
    labels = read("train/1.png,永\ntest/1.png,字\ntrain/2.png,八\n")
    assert labels.of("train/1.png", "s/train/1.png") == "永"
    assert labels.of("other/2.png", "s/other/2.png") is None
    assert labels.of("1.png", "s/1.png") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is damaged or of another kind"),
        ("{bad", "is damaged or of another kind"),
        ("path,label\n1.png,3\n2.png,4\n", "no column of characters"),
        ("1.png,永\n1.png,字\n", "both 永 and 字 of 1.png"),
        ("1.png,永\n2.png\n", "row 2: 1 cells, not 2"),
    ],
)
def test_bad_files_are_named_with_the_fault(read, content, words):
    with pytest.raises(ValueError, match=rf"labels\.csv.*{words}"):
        read(content)


def test_a_store_by_a_file_of_labels(tmp_path, make_image):
    for number in range(3):
        folder = tmp_path / "numbered" / f"{number:05}"
        folder.mkdir(parents=True)
        for i in range(2):
            cv2.imwrite(str(folder / f"{i}.png"), make_image(10 * number + i))
    out = tmp_path / "store"
    with pytest.raises(ValueError, match=r"numbered: .*numbered \(00000 …\).*--labels FILE"):
        prepare(tmp_path / "numbered", out)
    (tmp_path / "char_dict").write_bytes(pickle.dumps(DICTIONARY))
    store = prepare(tmp_path / "numbered", out, labels=tmp_path / "char_dict")
    assert store.charset.text == "八字永" and len(store) == 6
    (tmp_path / "labels.csv").write_text("path,label\n00000/1.png,丿\n", encoding="utf-8")
    store = prepare(
        tmp_path / "numbered", out, labels=tmp_path / "labels.csv", overwrite=True, test_fraction=0
    )
    assert store.sample_ids(range(len(store))) == ["numbered/00000/1.png"]
    assert store.manifest["skipped"]["by_reason"] == {
        "name stands for no character (--labels FILE gives them)": 5
    }
