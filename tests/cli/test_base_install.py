"""What `pip install hccr_tf` without an extra has to do, and what it says where it can't."""

import subprocess
import sys

import pytest
from PIL import Image

from hccr_tf.utils.errors import _EXTRAS, _TRAINING

pytestmark = pytest.mark.integration
BASE = {"hccr_tf", "numpy", "cv2", "onnxruntime", "PIL", "filelock"}


def run_without_extras(program: str, *arguments: object) -> subprocess.CompletedProcess:
    missing = [*_TRAINING, *_EXTRAS, "rich"]
    start = f"import sys; sys.modules.update(dict.fromkeys({missing}))\n"
    command = [sys.executable, "-c", start + program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_images_are_read_and_stores_prepared(tmp_path):
    image, folder = tmp_path / "一.png", tmp_path / "images" / "一"
    canvas = Image.new("L", (60, 60), 255)
    canvas.paste(0, (5, 28, 55, 32))
    canvas.save(image)
    folder.mkdir(parents=True)
    canvas.save(folder / "1.png")
    program = (
        "before = set(sys.modules)\n"
        "from hccr_tf.cli.main import main\n"
        "image, folder, out = sys.argv[1:]\n"
        "assert main(['predict', image, '--csv', out + '.csv']) == 0\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*loaded - sys.stdlib_module_names, file=sys.stderr)\n"
        "options = ['--test-fraction', '0', '--validation-fraction', '0']\n"
        "assert main(['data', 'prepare', folder, *options, '--out', out]) == 0\n"
        "assert main(['data', 'show', out]) == 0\n"
    )
    done = run_without_extras(program, image, folder.parent, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert "一.png  一" in done.stdout
    table = (tmp_path / "store.csv").read_text("utf-8").splitlines()
    assert table[0].startswith("path,character,probability") and ",一," in table[1]
    assert set(done.stderr.split()) <= BASE


def test_what_takes_more_names_the_extra(tmp_path):
    calls = {
        "main(['predict', 'x.png', '--workdir', '.'])": "tensorflow",
        "main(['export', 'recogniser', '--out', 'x.onnx'])": "export",
        "main(['data', 'audit', '.'])": "audit",
        "main(['runs', '.'])": "tensorflow",
        "main(['fuse', 'x.h5'])": "tensorflow",
        "hccr_tf.train": "tensorflow",
        "hccr_tf.Recognizer('.')": "tensorflow",
    }
    Image.new("L", (9, 9)).save(tmp_path / "x.png")
    program = f"import os\nos.chdir({str(tmp_path)!r})\nimport hccr_tf\n"
    program += "from hccr_tf.cli.main import main\n"
    for call in calls:
        program += f"try: assert {call} == 2\n"
        program += "except hccr_tf.HccrError as error: print(f'error: {error}', file=sys.stderr)\n"
    done = run_without_extras(program)
    assert done.returncode == 0, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for error, extra in zip(errors, calls.values(), strict=True):
        assert f"pip install 'hccr_tf[{extra}]'" in error
