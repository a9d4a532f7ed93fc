import json
import os

import pytest

from hccr_tf.files import atomic_directory, atomic_write, read_json, sha256_file, write_json


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_atomic_write_replaces_at_the_end(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_atomic_write_leaves_the_old_file_on_failure(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_atomic_write_needs_a_folder_and_a_file(tmp_path):
    missing = tmp_path / "nowhere" / "a"
    with pytest.raises(FileNotFoundError, match="nowhere"), atomic_write(missing):
        pass
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_atomic_directory_makes_parents_and_appears_at_the_end(tmp_path):
    target = tmp_path / "deep" / "store"
    with atomic_directory(target) as folder:
        (folder / "a").write_text("1")
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_text("2")
        assert not target.exists()
        assert folder.name.startswith(".store.partial-")
    assert (target / "sub" / "b").read_text() == "2"
    assert names(target.parent) == ["store"]


def test_atomic_directory_refuses_what_is_there(tmp_path):
    target = tmp_path / "store"
    target.mkdir()
    with atomic_directory(target) as folder:  # An empty folder is no loss.
        (folder / "a").write_text("1")
    with pytest.raises(FileExistsError, match="store exists"), atomic_directory(target):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError), atomic_directory(tmp_path / "file", overwrite=True):
        pass
    assert names(tmp_path) == ["file", "store"]


@pytest.mark.parametrize("fails", [False, True])
def test_atomic_directory_overwrites_whole_or_not_at_all(tmp_path, fails):
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").write_text("1")
    try:
        with atomic_directory(target, overwrite=True) as folder:
            (folder / "new").write_text("2")
            assert names(target) == ["old"]
            if fails:
                raise OSError("disk")
    except OSError:
        assert fails
    assert names(target) == (["old"] if fails else ["new"])
    assert names(tmp_path) == ["store"]


def test_atomic_directory_puts_the_old_one_back_if_the_swap_fails(tmp_path, monkeypatch):
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").write_text("1")
    rename = os.rename

    def failing(a, b):
        if ".partial-" in str(a):
            raise OSError("no")
        rename(a, b)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="no"), atomic_directory(target, overwrite=True) as folder:
        (folder / "new").write_text("2")
    assert names(target) == ["old"]
    assert names(tmp_path) == ["store"]


def test_json_round_trip_and_errors_name_the_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"字": [1, None, "汉"]})
    assert "字" in path.read_text(encoding="utf-8")
    assert read_json(path) == {"字": [1, None, "汉"]}
    path.write_text('{"a": 1,\n  oops}')
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON \(line 2"):
        read_json(path)
    path.write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match=r"a\.json is not UTF-8"):
        read_json(path)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_json(tmp_path / "missing.json")


def test_write_json_keeps_the_old_file_if_the_object_cannot_be_written(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == 1
    assert names(tmp_path) == ["a.json"]


def test_sha256_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_file(path).startswith("ba7816bf8f01cfea")
