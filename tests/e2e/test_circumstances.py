"""Commands beside others of their kind, and where clock, home or folders are not what they were."""

import itertools
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from disk import leftovers, put
from photographs import on_paper, written
from threads import ONE_THREAD

from hccr_tf.cli.main import main
from hccr_tf.data.store.prepare import prepare
from hccr_tf.data.store.store import Store

pytestmark = pytest.mark.e2e


@pytest.fixture
def source(tmp_path):
    for character in "九七":
        for i in range(2):
            put(tmp_path / "source" / character / f"{i}.png", written(character, i))
    return tmp_path / "source"


def start(*words, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "hccr_tf", *map(str, words)],
        env={**os.environ, **ONE_THREAD, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_prepare_one_store(source, tmp_path):
    out = tmp_path / "store"
    both = [start("data", "prepare", source, "--out", out, "--overwrite") for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes and set(codes) <= {0, 2}, printed
    assert all("error: " in text for text, code in zip(printed, codes, strict=True) if code)
    Store(out).verify()
    assert len(Store(out)) == 4 and not leftovers(tmp_path)


def test_a_home_that_cannot_be_written(tmp_path):
    put(tmp_path / "a.png", on_paper("九"))
    with start("predict", tmp_path / "a.png", HOME="/proc/none", XDG_CACHE_HOME="") as process:
        text = process.communicate()[0]
    assert process.returncode == 0 and "九" in text, text


def test_a_clock_that_goes_backward(source, tmp_path, monkeypatch):
    seconds = itertools.count(2e9, -3600)
    monkeypatch.setattr(time, "time", lambda: next(seconds))
    store = prepare(source, tmp_path / "store", progress=False)
    again = prepare(source, tmp_path / "store", progress=False, overwrite=True)
    assert again.data_hash == store.data_hash


def test_a_store_that_vanishes(source, tmp_path, capsys):
    store = prepare(source, tmp_path / "store", progress=False)
    shutil.rmtree(store.path)
    with pytest.raises(FileNotFoundError, match=r"images-00000\.bin"):
        store.images(np.arange(len(store)))
    assert main(["data", "show", str(store.path)]) == 2
    assert "is no store" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(source, capsys):
    assert main(["data", "prepare", str(source), "--out", "/proc/none/store"]) == 2
    assert "error: " in capsys.readouterr().err
