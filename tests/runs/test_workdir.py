"""A run's small files are refused by name, field and value where they aren't what they were."""

import json

import pytest

from hccr_tf import get_recipe
from hccr_tf.charset import Charset
from hccr_tf.inference.recognizer import read_temperature
from hccr_tf.pretrained import FOLDER
from hccr_tf.runs.workdir import Workdir


@pytest.fixture
def run(tmp_path):
    workdir = Workdir(tmp_path / "run")
    recipe = get_recipe("recogniser").override(image_size=32)
    workdir.begin(recipe, Charset.from_text("一二三"), "0" * 64, tmp_path)
    (workdir.path / "history.csv").write_bytes((FOLDER / "history.csv").read_bytes())
    return workdir


READ = {
    "recipe.json": lambda run: run.recipe,
    "preprocessing.json": lambda run: run.preprocessing,
    "charset.json": lambda run: run.charset,
    "run.json": lambda run: run.read_run(),
    "environment.json": lambda run: run.hardware,
    "calibration.json": lambda run: read_temperature(run.path),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("content", ["", "null", "3", "[]", '{"x": 1}', "[" * 100_000])
def test_other_content_is_refused(run, name, content):
    (run.path / name).write_text(content)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        READ[name](Workdir(run.path))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("preprocessing.json", {"blur_kernel": 1_000_001}, "blur_kernel is odd and below 4096"),
        ("preprocessing.json", {"image_size": 10**9}, "image_size is from 1 to 4096, not 10000"),
        ("preprocessing.json", {"image_size": "64"}, "image_size is '64', not a whole number"),
        ("preprocessing.json", {"blur_size": 10**9}, "blur_size is from 1 to 4096"),
        ("preprocessing.json", {"border": float("nan")}, "border is nan, not a finite number"),
        ("recipe.json", {"preprocessing": []}, "not an object"),
        ("recipe.json", {"augmentation": {"amount": "x"}}, "amount is 'x', not a finite number"),
        ("recipe.json", {"stages": [{"epochs": 0}]}, "at least 1 epoch"),
        ("recipe.json", {"loss_weights": {"main_output": None}}, "main_output is None, not a fin"),
        ("recipe.json", {"batch_size": 10**12}, "batch_size is at least 1, and below"),
        ("recipe.json", {"learning_rate": float("inf")}, "learning_rate is inf, not a finite"),
        ("run.json", {"state": "x"}, "state is 'x', not one of begun"),
        ("run.json", {"data_hash": 3}, "data_hash is 3, not a text"),
        ("run.json", {"best_val_accuracy": 7}, "best_val_accuracy is 7, not a number from 0 to 1"),
        ("environment.json", {"packages": None}, "packages is None, not an object"),
        ("calibration.json", {"temperature": 0}, "temperature is 0, not a number from 0.001"),
        ("calibration.json", {"temperature": -1}, "temperature is -1, not a number"),
        ("calibration.json", {"temperature": float("nan")}, "temperature is nan, not a finite"),
    ],
)
def test_the_field_is_named(run, name, changes, message):
    file = run.path / name
    before = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**before, **changes}), "utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        READ[name](Workdir(run.path))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", ["", "epoch\n", "a,b\n1,2\n", "\xff\xfe", 'a,"b\n1'])
def test_a_history_that_is_none_is_refused(run, content):
    run.history_path.write_text(content, "latin-1")
    with pytest.raises(ValueError, match=r"history\.csv"):
        run.read_history()


def test_a_history_of_no_numbers_is_refused(run):
    text = run.history_path.read_text().splitlines()
    run.history_path.write_text("\n".join([text[0], text[1].replace("0.8", "x")]))
    with pytest.raises(ValueError, match=r"history\.csv holds no rows, or no numbers"):
        run.read_history()
