"""Fixtures that several test files share."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from threads import ONE_THREAD

from hccr_tf import fuse, get_recipe, predict_split, train
from hccr_tf.charset import Charset
from hccr_tf.data.sources.discovery import Discovery
from hccr_tf.data.sources.records import RepairedName, Sample, SampleBlock, Skipped
from hccr_tf.data.store.prepare import prepare
from hccr_tf.data.store.store import Store
from hccr_tf.inference.logits_file import write_logits
from hccr_tf.synthesis.dataset import make_stroke_store
from hccr_tf.synthesis.sample import generate_gnt
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.synthesis.style import HandwritingStyle

# Beside another process of tests, more threads of one only wait for it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.update(ONE_THREAD)


def pytest_collection_modifyitems(items):
    """Whatever takes long goes first, so that two processes end at about the same time."""
    tiers = ("e2e", "parity", "integration")
    items.sort(key=lambda item: not any(map(item.get_closest_marker, tiers)))


@pytest.fixture(scope="session")
def make_once(tmp_path_factory):
    """A function that returns a folder, which the first of the session's processes fills."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def make(name: str, fill) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session", autouse=True)
def compiled(make_once):
    """What one process compiles for JAX serves the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(make_once("compiled", Path.mkdir)))
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
        discovery = Discovery(tmp_path_factory.mktemp("scratch"))
        discovery.add(Path(path))
        records: list = [*discovery.skipped]
        for record in itertools.chain(*(chunk.records() for chunk in discovery.chunks)):
            records += record.samples() if isinstance(record, SampleBlock) else [record]
        return records

    return read


@pytest.fixture
def read_kinds(read_records):
    """The same: samples, what was skipped, and repaired names."""

    def read(path):
        records, kinds = read_records(path), (Sample, Skipped, RepairedName)
        return tuple([r for r in records if isinstance(r, kind)] for kind in kinds)

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
def sample_store(make_once) -> Store:
    """A store of the 15 numerals at 48 pixels: 12 training and 4 test writers, 2 samples each."""

    def fill(folder):
        writers = {"num_writers": 12, "num_test_writers": 4, "samples_per_writer": 2}
        generate_gnt(folder / "data", **writers, seed=3, size=48)
        prepare([folder / "data"], folder / "store", progress=False)

    return Store(make_once("sample", fill) / "store")


@pytest.fixture(scope="session")
def numerals(make_once) -> Path:
    """A store of the 15 numerals that are drawn when asked for: 60 training, 10 held out each."""

    def fill(folder):
        make_stroke_store(
            load_strokes(),
            folder,
            source={"name": "embedded", "sha256": "0" * 64},
            per_class=60,
            held_out=10,
            charset=Charset.from_text("零一二三四五六七八九十百千万亿"),
            variation=HandwritingStyle(clutter=0.0),
        )

    return make_once("numerals", fill)


# Runs of the session: read them, and copy them to go on with them or to change them.


@pytest.fixture(scope="session")
def brick_run(make_once, sample_store) -> Path:
    """A run of two epochs of `brick_model1` at 16 pixels."""
    # Not narrower: TensorFlow 2.21's CPU kernels crash in strided 1x1 convolutions of fewer
    # than 16 channels when a batch's size is odd.
    small = {"image_size": 16, "model_args": {"num_bricks": 2, "width": 16}}
    recipe = get_recipe("brick_model1").override(**small, epochs=2, batch_size=32)
    return make_once("brick_run", lambda folder: train(recipe, sample_store, folder))


@pytest.fixture(scope="session")
def demo_results(make_once, brick_run, sample_store) -> Path:
    """A folder like runs/demo: the sample, a store, three runs, their logits, the fusion."""
    models = (1, 2, 3)

    def fill(folder):
        shutil.copytree(sample_store.path.parent / "data", folder / "sample")
        shutil.copytree(sample_store.path, folder / "store")
        logits = [folder / f"logits{i}.h5" for i in models]
        for i, path in zip(models, logits, strict=True):
            run = shutil.copytree(brick_run, folder / f"model{i}")
            predict_split(run, sample_store, path)
        fuse(logits, folder / "results", weights=[0.3, 0.2, 0.5])

    return make_once("demo", fill)


@pytest.fixture(scope="session")
def refined_run(make_once, sample_store) -> Path:
    """A run of three epochs of `mrbc_ir` at 16 pixels, with three steps before the last."""
    network = {"width": 4, "attention_width": 8}
    recipe = get_recipe("mrbc_ir")
    recipe = recipe.override(
        image_size=16,
        model_args={**recipe.model_args, **network},
        epochs=3,
        batch_size=32,
        learning_rate=5e-3,
    )
    return make_once("refined_run", lambda folder: train(recipe, sample_store, folder))


@pytest.fixture(scope="session")
def convnet_runs(make_once, sample_store) -> list[Path]:
    """Runs of an epoch of `convnet` and `convnet_ir` at 16 pixels, without and with refinement."""
    small = {"image_size": 16, "model.width": 4, "epochs": 1, "batch_size": 32}

    def fill(folder):
        for name in ("convnet", "convnet_ir"):
            train(get_recipe(name).override(small), sample_store, folder / name)

    folder = make_once("convnet_runs", fill)
    return [folder / "convnet", folder / "convnet_ir"]


@pytest.fixture(scope="session")
def compact_run(make_once, numerals) -> Path:
    """A run of the recogniser's network that reads the numerals."""
    recipe = get_recipe("recogniser").override(
        image_size=32, model_args={"width": 8}, epochs=8, batch_size=32, warmup_steps=20
    )
    return make_once("compact_run", lambda folder: train(recipe, numerals, folder))


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
        ) as add_rows:
            add_rows(labels, ids, logits, *([] if center is None else [center]))
        return path

    return make
