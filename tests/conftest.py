"""Fixtures that several test files share."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from threads import ONE_THREAD

from hccr_tf.charset import Charset
from hccr_tf.data.sources.discovery import read_source
from hccr_tf.data.sources.records import SampleBlock
from hccr_tf.data.store.prepare import prepare
from hccr_tf.data.store.store import Store
from hccr_tf.inference.logits_file import write_logits
from hccr_tf.synthesis.sample import generate_gnt

# Beside another process of tests, more threads of one only wait for it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.update(ONE_THREAD)


def pytest_collection_modifyitems(items):
    """Files with slow tests first, the slowest of them at the head, which stand last by name.

    So two processes end at about the same time.
    """
    files = list(dict.fromkeys(item.path for item in items))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    place = {path: -i if path in slow else i for i, path in enumerate(files)}
    items.sort(key=lambda item: (item.path not in slow, place[item.path]))


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """What one process compiles for JAX serves the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data, or a skip that says how to name one."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HCCR_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set HCCR_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def hwdb100(real_data) -> Path:
    """The folder with 100 classes of CASIA-HWDB, or a skip."""
    folder = real_data / "hwdb100"
    if not folder.is_dir():
        pytest.skip(f"no hwdb100 in {real_data}")
    return folder


@pytest.fixture
def make_disk(tmp_path):
    """A function that mounts a file system of a size such as "30m", or skips."""
    folder = tmp_path / "disk"

    def make(size: str) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if (
            shutil.which("mount") is None
            or subprocess.run(command, capture_output=True, check=False).returncode
        ):
            folder.rmdir()
            pytest.skip("a small file system takes the right to mount one")
        return folder

    yield make
    if folder.exists():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def read_records(tmp_path_factory):
    """A function that reads a source and returns all its records, blocks as single samples."""

    def read(path) -> list:
        records = []
        for record in read_source(path, tmp_path_factory.mktemp("scratch")):
            records += record.samples() if isinstance(record, SampleBlock) else [record]
        return records

    return read


@pytest.fixture
def make_image():
    """A function that makes a small image, shape (height, width), different for every seed."""

    def make(seed: int, height: int = 5, width: int = 4) -> np.ndarray:
        image = np.random.default_rng(seed).integers(0, 255, (height, width), dtype=np.uint8)
        # The seed in the first pixels keeps images apart whatever the generator draws.
        image.flat[:3] = seed % 251, seed // 251 % 251, height
        return image

    return make


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory) -> Store:
    """A store of the 15 numerals at 48 pixels: 12 training and 4 test writers, 2 samples each."""
    folder = tmp_path_factory.mktemp("sample")
    generate_gnt(
        folder / "data", num_writers=12, num_test_writers=4, samples_per_writer=2, seed=3, size=48
    )
    return prepare([folder / "data"], folder / "store", progress=False)


@pytest.fixture
def make_logits_file(tmp_path):
    """A function that writes a logits file of arrays and returns its path."""

    def make(
        name: str,
        logits: np.ndarray,
        labels: np.ndarray,
        *,
        center: np.ndarray | None = None,
        characters: str = "零一二三四五六七八九十百",
        ids: list[str] | None = None,
        **attributes,
    ) -> Path:
        charset = Charset.from_text(characters[: logits.shape[1]])
        ids = [f"test/{i}" for i in range(len(labels))] if ids is None else ids
        path = tmp_path / name
        with write_logits(
            path, len(labels), charset, attributes, center=center is not None
        ) as writer:
            writer.add(labels, ids, logits, *([] if center is None else [center]))
        return path

    return make
