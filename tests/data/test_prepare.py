"""Reading beside each other, going on after a kill, and full disks: with the command itself."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hccr_tf.data.sources import discovery as sources_module
from hccr_tf.data.sources.gnt import write_gnt
from hccr_tf.data.store.prepare import prepare
from hccr_tf.data.store.store import Store

REPO = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path):
    """.gnt files of 60 MB, one of them damaged, and some that are no .gnt file."""
    folder = tmp_path / "gnt"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        images = rng.integers(0, 256, (500, 100, 100), dtype=np.uint8)
        write_gnt(folder / f"{i:02}-f.gnt", [("啊", image) for image in images])
    with open(folder / "03-f.gnt", "r+b") as stream:
        stream.seek(10_010 * 7)
        stream.write(b"\xff" * 20)
    (folder / "readme.txt").write_text("hello")
    return folder


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """Tasks of some megabytes, for this process and those it starts."""
    monkeypatch.setattr(sources_module, "TASK_BYTES", 4 << 20)


def start(source, out, *arguments, workers=2):
    program = (
        "import sys; from hccr_tf.data import sources; sources.TASK_BYTES = 4 << 20; "
        "from hccr_tf.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "data",
        "prepare",
        str(source),
        "--out",
        str(out),
        "--workers",
        str(workers),
        *arguments,
    ]
    return subprocess.Popen(
        command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


@pytest.mark.integration
def test_the_number_of_workers_changes_no_byte(source, tmp_path):
    stores = [prepare([source], tmp_path / str(n), workers=n) for n in (1, 2, 3)]
    first = contents(stores[0].path)
    assert len([name for name in first if name.startswith("images")]) == 12
    for store in stores[1:]:
        assert contents(store.path) == first
    assert len(stores[0]) == 12 * 500 - 1
    assert stores[0].manifest["quarantined"]["count"] == 2
    stores[0].verify()


@pytest.mark.integration
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_killed_again_and_again_it_ends_with_the_same_store(source, tmp_path):
    whole = contents(prepare([source], tmp_path / "whole", workers=1).path)
    out = tmp_path / "killed"
    draw = random.Random(1)
    kills = 0
    for parts in (0, 1, 3, 5, 7, 9, 11, 13):
        process = start(source, out)
        # Killed once so many parts are there: while planning, reading, and putting together.
        while process.poll() is None:
            if len(list((tmp_path / ".killed.partial").glob("parts/*.json"))) >= parts:
                break
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.02))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    if not out.exists():
        process = start(source, out)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert contents(out) == whole
    assert kills >= 6
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.integration
def test_finished_parts_are_not_read_again_but_checked(source, tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    whole = contents(prepare([source], tmp_path / "whole", workers=1).path)

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hccr_tf.data.store.prepare.assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare([source], out, workers=1)
    work = tmp_path / ".out.partial"
    times = {p.name: p.stat().st_mtime_ns for p in (work / "store").iterdir()}
    # What a crashed machine leaves: a file of the right size with other contents.
    with open(work / "store" / "images-00005.bin", "r+b") as stream:
        stream.seek(12345)
        stream.write(bytes(8))
    kept = {}

    def look(*args):
        kept.update({p.name: p.stat().st_mtime_ns for p in (work / "store").iterdir()})
        stop()

    with monkeypatch.context() as patch:
        patch.setattr("hccr_tf.data.store.prepare.assemble", look)
        with pytest.raises(KeyboardInterrupt):
            prepare([source], out, workers=1)
    assert [name for name in times if kept[name] != times[name]] == ["images-00005.bin"]
    assert contents(prepare([source], out, workers=1).path) == whole
    assert "going on with 13 of 13 parts" in capfd.readouterr().err


@pytest.mark.integration
def test_changed_sources_are_read_anew(source, tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hccr_tf.data.store.prepare.assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare([source], out, workers=1)
    (source / "11-f.gnt").unlink()
    assert len(prepare([source], out, workers=1)) == 11 * 500 - 1
    assert "reading anew" in capfd.readouterr().err


@pytest.mark.integration
def test_two_at_once_are_refused(source, tmp_path):
    out = tmp_path / "out"
    first = start(source, out)
    while not (tmp_path / ".out.partial" / "state.json").exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    try:
        from hccr_tf.utils.files import exclusive_lock

        with (
            pytest.raises(BlockingIOError, match="another prepares"),
            exclusive_lock(tmp_path / ".out.partial" / "lock", "another prepares", patience=0.2),
        ):
            pass
    finally:
        first.send_signal(signal.SIGCONT)
    first.communicate()
    assert first.returncode == 0
    Store(out).verify()


@pytest.mark.integration
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(source, make_disk, workers):
    small_disk = make_disk("30m")
    out = small_disk / "store"
    earlier = prepare([source / "00-f.gnt"], out).data_hash
    process = start(source, out, "--overwrite", workers=workers)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert "the disk is full" in errors and "the same command goes on" in errors
    assert "Traceback" not in errors
    assert Store(out).data_hash == earlier
    Store(out).verify()
    # With room, what was read before the disk was full is not read again.
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    process = start(source, out, "--overwrite", workers=workers)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "going on with" in errors
    assert len(Store(out)) == 12 * 500 - 1


@pytest.mark.integration
def test_a_worker_that_dies_is_said_to_have_died(source, tmp_path, monkeypatch):
    from hccr_tf.data.store.store import workers

    begin = workers._Worker.send

    def kill(self, job):
        begin(self, job)
        if job["kind"] == "read" and job["task"]["number"] == 5:
            self._process.kill()

    with monkeypatch.context() as patch:
        patch.setattr(workers._Worker, "send", kill)
        with pytest.raises(ChildProcessError, match="signal 9.*The same command goes on"):
            prepare([source], tmp_path / "out", workers=2)
    assert len(prepare([source], tmp_path / "out", workers=2)) == 12 * 500 - 1
