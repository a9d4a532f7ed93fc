"""The scripts and the command as a user runs them, and the wheel outside the tree."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SMALL = ["--image-size", "16", "--model.num_bricks", "2", "--model.width", "16", "--epochs", "2"]


def run(*command, cwd, ok=True, **environment):
    """Runs a command and returns what it printed; `ok=False` expects exit code 2."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == ok, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout if ok else done.stderr


def hccr(*arguments, **options):
    return run(sys.executable, "-m", "hccr_tf", *arguments, **options)


@pytest.mark.slow
def test_main_job_from_sample_to_fused_accuracy(tmp_path):
    hccr("data", "sample", "--out", "sample", "--writers", 8, "--test-writers", 3, cwd=tmp_path)
    shown = hccr("data", "prepare", "sample", "--out", "store", cwd=tmp_path)
    assert "15 classes" in shown
    hccr("data", "show", "store", "--verify", cwd=tmp_path)
    assert (tmp_path / "store-sheet.png").stat().st_size > 1000
    files = []
    for i in (1, 2, 3):
        trainer, predictor = (ROOT / f"{kind}s/{kind}{i}.py" for kind in ("trainer", "predictor"))
        printed = run(
            sys.executable, trainer, "--data", "store", "--workdir", f"run{i}", *SMALL, cwd=tmp_path
        )
        assert "epoch 2/2" in printed and "best epoch" in printed
        files.append(f"logits{i}.h5")
        run(
            sys.executable,
            predictor,
            "--data",
            "store",
            "--split",
            "test",
            "--workdir",
            f"run{i}",
            "--out",
            files[-1],
            cwd=tmp_path,
        )
    blurs = [json.loads((tmp_path / f"run{i}/recipe.json").read_text()) for i in (1, 2, 3)]
    assert [r["preprocessing"]["blur_kernel"] for r in blurs] == [0, 3, 7]
    with h5py.File(tmp_path / files[0]) as file:
        assert file["logits"].shape == (180, 15) and file["logits"].dtype == "float32"
        assert file["labels"].dtype == "int32"
        assert len(file.attrs["charset"]) == 15
        assert json.loads(file.attrs["recipe"])["name"] == "kriuk_model1"
    printed = run(
        sys.executable,
        ROOT / "predictors/predictor_finalizer.py",
        *files,
        "--weights",
        0.3,
        0.2,
        0.5,
        "--out",
        "results",
        cwd=tmp_path,
    )
    fused = next(line for line in printed.splitlines() if "fused" in line)
    metrics = json.loads((tmp_path / "results/metrics.json").read_text())
    assert f"{100 * metrics['fused']['logits']['top1']:.2f}%" in fused
    predictions = pd.read_csv(tmp_path / "results/predictions.csv")
    assert predictions["correct"].mean() == pytest.approx(metrics["fused"]["logits"]["top1"])
    for name in ("per_class.csv", "confused_pairs.csv", "confused_pairs.png"):
        assert (tmp_path / "results" / name).stat().st_size


@pytest.mark.parametrize(
    "script",
    [
        *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("trainers/*.py")),
        *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("predictors/*.py")),
    ],
)
def test_every_script_teaches(script, tmp_path):
    printed = run(sys.executable, ROOT / script, "--help", cwd=tmp_path)
    assert f"python {script}" in printed  # an example to copy
    assert "--data" in printed or "finalizer" in script
    assert len((ROOT / script).read_text().splitlines()) < 25


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["data", "prepare"],
        ["data", "show"],
        ["data", "sample"],
        ["train"],
        ["evaluate"],
        ["fuse"],
    ],
)
def test_every_command_teaches_without_loading_a_framework(command, tmp_path):
    program = (
        "import sys\nfrom hccr_tf.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert not {'keras', 'tensorflow', 'cv2'} & set(sys.modules)"
    )
    printed = run(sys.executable, "-c", program, *command, "--help", cwd=tmp_path)
    assert "hccr" in printed and len(printed.splitlines()) > 8


def test_list_names_models_and_recipes(tmp_path):
    printed = hccr("list", cwd=tmp_path)
    assert "brick_net" in printed and "kriuk_model3" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "prepare", "nothing.zip", "--out", "store"], "nothing.zip"),
        (["data", "show", "nothing"], "hccr data prepare"),
        (["train", "kriuk_model1", "--data", "nothing", "--workdir", "w"], "is no store"),
        (["fuse", "nothing.h5"], "There is no logits file nothing.h5"),
    ],
)
def test_faults_are_one_line_with_exit_code_2(arguments, message, tmp_path):
    shown = hccr(*arguments, cwd=tmp_path, ok=False)
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert "Traceback" not in shown


def test_an_image_too_small_names_the_smallest_size(sample_store, tmp_path):
    shown = hccr(
        "train",
        "kriuk_model1",
        "--data",
        sample_store.path,
        "--workdir",
        "w",
        "--image-size",
        "64",
        cwd=tmp_path,
        ok=False,
    )
    assert "86×86" in shown


# Everything but tf.data and tf.distribute, with TensorFlow out of reach.
WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
from hccr_tf.cli.main import main
import keras
assert keras.backend.backend() == "jax"
store, small = sys.argv[1], sys.argv[2:]
assert main(["train", "brick_model2", "--data", store, "--workdir", "jax", *small]) == 0
assert main(["train", "brick_model2", "--data", store, "--workdir", "jax", *small]) == 0
staged = ["--model", "convnet", "--image-size", "16", "--model.width", "4", "--stages",
          "backbone:1,3:1", "--samples-per-class", "8"]
assert main(["train", "transfer", "--data", store, "--workdir", "staged", *staged]) == 0
for run in ("jax", "tensorflow"):
    assert main(["evaluate", run, "--data", store, "--out", run + "-on-jax.h5"]) == 0
"""


@pytest.mark.slow
def test_jax_without_tensorflow_trains_and_reads_tensorflows_runs(sample_store, tmp_path):
    """The same weights give the same logits on both backends, in both directions."""
    pytest.importorskip("jax")
    hccr(
        "train",
        "brick_model2",
        "--data",
        sample_store.path,
        "--workdir",
        "tensorflow",
        *SMALL,
        cwd=tmp_path,
        KERAS_BACKEND="tensorflow",
    )
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, str(sample_store.path), *SMALL],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nothing to do" in done.stdout
    assert "Stage 2 of 2, from epoch 2 on" in done.stdout
    for trained_on in ("jax", "tensorflow"):
        hccr(
            "evaluate",
            trained_on,
            "--data",
            sample_store.path,
            "--out",
            f"{trained_on}-on-tensorflow.h5",
            cwd=tmp_path,
            KERAS_BACKEND="tensorflow",
        )
        with (
            h5py.File(tmp_path / f"{trained_on}-on-jax.h5") as jax,
            h5py.File(tmp_path / f"{trained_on}-on-tensorflow.h5") as tensorflow,
        ):
            difference = abs(jax["logits"][()] - tensorflow["logits"][()]).max()
            assert difference < 1e-4


@pytest.mark.slow
def test_a_wheel_installed_elsewhere_trains_and_predicts(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("hccr_tf", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    run(
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path,
        tree,
        cwd=tmp_path,
    )
    (wheel,) = tmp_path.glob("hccr_tf-*.whl")
    site = tmp_path / "site"
    run(*pip, "install", "--no-deps", "--no-index", "--target", site, wheel, cwd=tmp_path)
    shutil.rmtree(tree)

    def installed(*arguments):
        program = (
            "import sys, hccr_tf; from hccr_tf.cli.main import main; "
            f"assert hccr_tf.__file__.startswith({str(site)!r}), hccr_tf.__file__; "
            "sys.exit(main())"
        )
        return run(sys.executable, "-c", program, *arguments, cwd=tmp_path, PYTHONPATH=str(site))

    installed("data", "sample", "--out", "s", "--writers", 4, "--test-writers", 1)
    installed("data", "prepare", "s", "--out", "store")
    installed("train", "brick_model1", "--data", "store", "--workdir", "r", *SMALL)
    printed = installed("evaluate", "r", "--data", "store", "--out", "logits.h5")
    assert "top1" in printed
    assert (site / "bin" / "hccr").exists()
