"""The wheel, installed outside the tree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
SMALL = "--image-size 16 --model.num_bricks 2 --model.width 16 --epochs 1".split()


def test_a_wheel_installed_elsewhere_trains_and_predicts(tmp_path):
    def run(*command: object, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    tree, site = tmp_path / "tree", tmp_path / "site"
    tree.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "hccr_tf", tree / "hccr_tf", ignore=ignored)
    pip = ["-m", "pip", "--quiet"]
    build = ["--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, tree]
    run(*pip, "wheel", *build)
    (wheel,) = tmp_path.glob("hccr_tf-*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--target", site, wheel)
    shutil.rmtree(tree)

    def installed(*arguments: str) -> str:
        program = (
            "import sys, hccr_tf; from hccr_tf.cli.main import main; "
            f"assert hccr_tf.__file__.startswith({str(site)!r}), hccr_tf.__file__; "
            "sys.exit(main())"
        )
        return run("-c", program, *arguments, PYTHONPATH=str(site))

    installed("data", "sample", "--out", "s", "--writers", "4", "--test-writers", "1")
    installed("data", "prepare", "s", "--out", "store")
    installed("train", "brick_model1", "--data", "store", "--workdir", "r", *SMALL)
    printed = installed("evaluate", "r", "--data", "store", "--out", "logits.h5")
    assert "top1" in printed
    installed("export", "recogniser", "--out", "page.html")
    assert (site / "bin" / "hccr").exists() and (site / "hccr_tf" / "py.typed").exists()
