"""Reading in several processes, kills, and full disks: with the command itself."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hccr_tf.charset import Charset
from hccr_tf.data.sources import discovery
from hccr_tf.data.sources.gnt import write_gnt
from hccr_tf.data.store import prepare as prepare_module
from hccr_tf.data.store.prepare import prepare, prepare_part
from hccr_tf.data.store.store import Store
from hccr_tf.synthesis.sample import generate_gnt
from hccr_tf.utils.errors import HccrError

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """.gnt files of 20 MB, one of them damaged, and one that is no .gnt file."""
    folder = tmp_path_factory.mktemp("source") / "gnt"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        images = rng.integers(0, 256, (500, 100, 100), dtype=np.uint8)
        write_gnt(folder / f"{i:02}-f.gnt", [("啊", image) for image in images])
    with open(folder / "03-f.gnt", "r+b") as stream:
        stream.seek(10_010 * 7)
        stream.write(b"\xff" * 20)
    (folder / "readme.txt").write_text("hello")
    return folder


def start(source, out, *arguments):
    command = [sys.executable, "-m", "hccr_tf", "data", "prepare", str(source), "--out", str(out)]
    return subprocess.Popen(
        [*command, *arguments], cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


@pytest.mark.integration
def test_the_number_of_workers_changes_no_byte(source, tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "CHUNK_BYTES", 4 << 20)
    stores = [prepare(source, tmp_path / str(n), workers=n) for n in (1, 2, 3)]
    first = contents(stores[0].path)
    assert len([name for name in first if name.startswith("images")]) == 4
    for store in stores[1:]:
        assert contents(store.path) == first
    assert len(stores[0]) == 4 * 500 - 1
    assert stores[0].manifest["skipped"]["count"] == 2
    stores[0].verify()


@pytest.mark.integration
def test_a_script_without_a_guard_is_not_run_again(source, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import hccr_tf\nprint('once')\n"
        f"print(len(hccr_tf.prepare({str(source)!r}, {str(tmp_path / 'out')!r}, workers=2)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["once", "1999"], done.stderr


@pytest.mark.integration
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_a_killed_command_leaves_no_half_store_and_can_be_given_again(source, tmp_path):
    out, work = tmp_path / "out", tmp_path / ".out.partial"
    process = start(source, out, "--workers", "2")
    while not list(work.glob("store/images-*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists() and work.exists()
    (work / "store" / "images-00099.bin").write_bytes(b"of the killed one")
    store = prepare(source, out)
    store.verify()
    assert sorted(store.path.glob("images-*")) == [out / "images-00000.bin"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.integration
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(source, make_disk, workers):
    out = make_disk("12m") / "store"
    earlier = prepare(source / "00-f.gnt", out).data_hash
    process = start(source, out, "--overwrite", "--workers", str(workers))
    _, errors = process.communicate()
    assert process.returncode == 2
    assert "the disk is full" in errors and "Free some space" in errors
    assert "Traceback" not in errors
    assert [path.name for path in out.parent.iterdir()] == ["store"]
    assert Store(out).data_hash == earlier
    Store(out).verify()


def die_elsewhere(*_):
    if multiprocessing.parent_process():
        os._exit(9)


@pytest.mark.integration
def test_a_process_that_dies_is_said_to_have_died(source, tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "CHUNK_BYTES", 4 << 20)
    monkeypatch.setattr(prepare_module, "_read_chunk", die_elsewhere)
    with pytest.raises(ChildProcessError, match="fewer --workers take less"):
        prepare(source, tmp_path / "out", workers=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("num_writers", "options", "remedy"),
    [
        (1, {}, "--validation-split shuffle"),
        (2, {}, "--validation-split shuffle"),
        (1, {"validation_split": "shuffle"}, None),
        (2, {"validation_fraction": 0}, None),
        (2, {"test_fraction": 1}, None),
        (1, {"split": "shuffle"}, "--validation-fraction"),
    ],
)
def test_a_lack_of_validation_is_said_with_the_remedy(
    tmp_path, make_image, caplog, num_writers, options, remedy
):
    (tmp_path / "gnt").mkdir()
    number = 3 if "split" in options else 30
    for i in range(num_writers):
        images = [make_image(100 * i + k) for k in range(number)]
        write_gnt(tmp_path / "gnt" / f"{i:02}-f.gnt", [("啊", image) for image in images])
    store = prepare(tmp_path / "gnt", tmp_path / "store", **options)
    assert [remedy in message for message in caplog.messages] == [True] * bool(remedy)
    if options.get("validation_split"):
        assert store.manifest["counts"]["validation"]


# === In parts ===


def test_parts_make_the_bytes_of_one_prepare(tmp_path, monkeypatch):
    monkeypatch.setattr("hccr_tf.data.sources.discovery.CHUNK_FILES", 2)
    generate_gnt(tmp_path / "data", num_writers=5, num_test_writers=2, samples_per_writer=1)
    (tmp_path / "data" / "notes.txt").write_text("no image")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "data")
    sources = [tmp_path / "data", tmp_path / "packed.zip"]
    charset = Charset.from_text("九八七六五四")
    whole = prepare(sources, tmp_path / "whole", charset=charset, progress=False)
    out = tmp_path / "joined"
    for shard in ((2, 3), (1, 3), (2, 3)):  # one again
        prepare_part(sources, out, shard, charset=charset)
    with pytest.raises(HccrError, match=r"in no part in .*joined\.parts .*there: 1-of-3, 2-of-3\)"):
        prepare(sources, out, charset=charset, join=True)
    part = prepare_part(sources, out, (3, 3), charset=charset)
    with pytest.raises(HccrError, match="Prepare each --shard I/N with the same arguments"):
        prepare(sources, out, join=True)
    joined = prepare(sources, out, charset=charset, join=True)
    assert joined.data_hash == whole.data_hash and not part.parent.exists()
    names = sorted(path.name for path in whole.path.iterdir())
    assert names == sorted(path.name for path in out.iterdir()) and "images-00001.bin" in names
    for name in names:
        assert (whole.path / name).read_bytes() == (out / name).read_bytes(), name
    with pytest.raises(HccrError, match="I from 1 to N, not 4/3"):
        prepare_part(sources, out, (4, 3))
