import csv
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import (
    atomic_write,
    distinct_names,
    exclusive_lock,
    read_json,
    replace_directory,
    sha256_file,
    write_csv,
    write_json,
    write_rows,
)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_atomic_write_replaces_at_the_end_or_not_at_all(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), atomic_write(target) as temporary:
            temporary.write_text("half")
            raise error
        assert target.read_text() == "old"
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_atomic_write_needs_a_folder_and_a_file(tmp_path):
    missing = tmp_path / "nowhere" / "a"
    with pytest.raises(FileNotFoundError, match="nowhere"), atomic_write(missing):
        pass
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / ".store.partial" / "store"
    folder.mkdir(parents=True)
    (folder / "new").write_text("2")
    return folder


@pytest.mark.parametrize("earlier", [False, True])
def test_replace_directory(tmp_path, made, earlier):
    target = tmp_path / "store"
    if earlier:
        target.mkdir()
        (target / "old").write_text("1")
    replace_directory(made, target)
    assert names(target) == ["new"]
    assert names(tmp_path) == [".store.partial", "store"]
    assert not made.exists()


def test_replace_directory_puts_the_old_one_back_if_the_swap_fails(tmp_path, made, monkeypatch):
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").write_text("1")
    rename = os.rename

    def failing(a, b):
        if a == made:
            raise OSError("no")
        rename(a, b)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="no"):
        replace_directory(made, target)
    assert names(target) == ["old"]
    assert names(tmp_path) == [".store.partial", "store"]


def test_a_lock_is_held_by_one_and_ends_with_its_process(tmp_path):
    path = tmp_path / "work" / "lock"
    path.parent.mkdir()
    with (
        exclusive_lock(path, "busy"),
        pytest.raises(BlockingIOError, match="busy"),
        exclusive_lock(path, "busy", patience=0.05),
    ):
        pass
    program = (
        "import os, sys, time; from pathlib import Path\n"
        "from hccr_tf.utils.files import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1]), 'busy'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), exclusive_lock(path, "busy", patience=0):
            pass
        other.kill()
    # A lock whose folder its holder deletes is none.
    with exclusive_lock(path, "busy", patience=5):
        path.unlink()
        path.parent.rmdir()
    path.parent.mkdir()
    with exclusive_lock(path, "busy", patience=0):
        assert path.exists()


def test_json_round_trip_and_errors_name_the_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"字": [1, None, "汉"]})
    assert "字" in path.read_text(encoding="utf-8")
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert names(tmp_path) == ["a.json"]
    assert read_json(path) == {"字": [1, None, "汉"]}
    path.write_text('{"a": 1,\n  oops}')
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON in UTF-8 \(.*line 2"):
        read_json(path)
    path.write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match=r"a\.json is not .* UTF-8 .*position 1"):
        read_json(path)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_json(tmp_path / "missing.json")


def test_sha256_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_file(path).startswith("ba7816bf8f01cfea")


def test_distinct_names():
    assert distinct_names([Path("/a/x"), Path("/b/y")]) == ["x", "y"]
    assert distinct_names([Path("/a/x"), Path("/b/x"), Path("/b/y")]) == ["a-x", "b-x", "b-y"]
    assert distinct_names([Path("/a/x")]) == ["x"]
    with pytest.raises(ValueError, match="named twice"):
        distinct_names([Path("/a/x"), Path("/a/x")])


def test_cells_that_look_like_formulas_are_made_safe(tmp_path):
    cells = ["=cmd()|x", "+1+cmd", "-a", "@b", "=", "-", "-0.5", "+3.1 %", "-1e-05", "实", -2, ""]
    safe = ["'=cmd()|x", "'+1+cmd", "'-a", "'@b", *map(str, cells[4:])]
    write_rows(tmp_path / "a.csv", ["cell"], ([cell] for cell in cells))
    write_csv(tmp_path / "b.csv", pd.DataFrame({"cell": cells}))
    for name in ("a.csv", "b.csv"):
        with open(tmp_path / name, encoding="utf-8", newline="") as stream:
            assert [row[0] for row in csv.reader(stream)] == ["cell", *safe]


def test_names_that_are_no_utf8_are_written(tmp_path):
    name = os.fsdecode(b"\xb3\xe8.png")
    write_rows(tmp_path / "a.csv", ["path"], [[name]])
    assert (tmp_path / "a.csv").read_text() == "path\n\\udcb3\\udce8.png\n"
    write_json(tmp_path / "a.json", {"name": name})
    assert read_json(tmp_path / "a.json") == {"name": name}


def test_what_is_no_plain_file_is_not_replaced(tmp_path):
    for path in (tmp_path, tmp_path / "pipe"):
        if not path.exists():
            os.mkfifo(path)
        with pytest.raises(HccrError, match="no plain file"), atomic_write(path):
            raise AssertionError
