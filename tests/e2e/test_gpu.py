"""`make gpu` at its smallest, on the processor: what it packs, trains and leaves."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from hccr_tf import Predictor

ROOT = Path(__file__).parents[2]
SMALLEST = (
    "--image-size 16 --num-bricks 2 --batch-size 16 --passes 2 --steps-per-execution 3 "
    "--minutes 0.01 --recogniser-minutes 0.01 --recogniser-batch-size 15"
)


@pytest.mark.e2e
def test_packs_trains_and_leaves_tables_and_weights(sample_store, tmp_path):
    pytest.importorskip("jax")
    pack, out = tmp_path / "pack", tmp_path / "out"

    def make(target: str, **variables) -> subprocess.CompletedProcess:
        settings = {"PACK": pack, "OUT": out, "GPU_PYTHON": sys.executable, **variables}
        command = ["make", "-C", str(ROOT), target, *(f"{k}={v}" for k, v in settings.items())]
        return subprocess.run(command, capture_output=True, text=True)

    strokes = ROOT / "hccr_tf" / "synthesis" / "numerals.json"
    packed = make("gpu-pack", DATA=sample_store.path, STROKES=strokes, WHEELS="")
    assert packed.returncode == 0, packed.stderr
    assert sorted(p.name for p in pack.iterdir()) == ["store.tar.xz", "strokes", "wheels"]

    parts = "kriuk_model1 kriuk_model2 recogniser accuracies"
    variables = {"GPU": SMALLEST, "STROKE_FLAGS": "--charset all --per-class 3"}
    # Of a part that fails the others stay: there's nothing to fuse yet.
    failed = make("gpu", GPU_PARTS="accuracies kriuk_model1", **variables)
    assert failed.returncode and "Failed: accuracies" in failed.stdout, failed.stderr
    states = pd.read_csv(out / "gpu.csv").set_index("part")["state"]
    assert states["accuracies"].startswith("failed: Name at least one")
    assert states["kriuk_model1"] == "done"

    done = make("gpu", GPU_PARTS=parts, **variables)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "kriuk_model1 is done" in done.stdout
    table = pd.read_csv(out / "gpu.csv").set_index("part")
    assert set(table.index) == set(parts.split()) and (table["state"] == "done").all()
    trained = table.drop("accuracies")
    positive = ["images_per_second", "memory_gb", "tflops", "gmacs", "steps", "packed_mb"]
    positive += ["trial_single", "trial_steps", "trial_on_device", "trial_loader"]
    assert (trained[positive] > 0).all(axis=None)
    assert trained["input_wait"].between(0, 1).all()
    assert trained["share_of_peak"].isna().all()  # of a processor none is known
    read_by = pd.read_csv(out / "accuracy.csv")
    assert read_by["top1"].between(0, 1).all()
    names = {"kriuk_model1", "kriuk_model2", "recogniser", "recogniser, trained on"}
    assert names <= set(read_by["read_by"])
    assert read_by["read_by"].str.startswith("fused, searched").sum() == 2  # crops, centre
    with tarfile.open(out / "kriuk_model1.tar") as archive:
        archive.extractall(tmp_path / "back", filter="data")
    assert len(Predictor(tmp_path / "back" / "kriuk_model1").charset) == 15
