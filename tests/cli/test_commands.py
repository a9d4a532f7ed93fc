"""The command in one process: what its help teaches, and how faults are reported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from hccr_tf.cli.flags import COMMANDS, Parser
from hccr_tf.cli.main import main
from hccr_tf.cli.parsers import hccr_parser

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("trainers/*.py"), *ROOT.glob("predictors/*.py")])


def help_of(capsys, *command: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches(name, capsys):
    text = help_of(capsys, *name.split())
    parser = Parser()
    COMMANDS[name].fill(parser)
    assert all(action.help for action in parser._actions)
    if name != "list":
        assert f"hccr {name} " in text.partition("Example")[2]  # an example to copy


def test_help_loads_no_framework():
    program = (
        "import contextlib, io, sys\nfrom hccr_tf.cli.flags import COMMANDS\n"
        "from hccr_tf.cli.main import main\n"
        "for name in ['', *COMMANDS]:\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        main([*name.split(), '--help'])\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_teaches(script, capsys, monkeypatch):
    source = script.read_text()
    name = script.relative_to(ROOT).as_posix()
    assert f"python {name}" in ast.get_docstring(ast.parse(source))  # an example to copy
    assert len(source.splitlines()) < 25
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        exec(compile(source, name, "exec"), {"__name__": "__main__", "__doc__": "An example"})
    assert "--out" in (text := capsys.readouterr().out) or "--workdir" in text


def test_exit_codes_are_told():
    assert "Exit codes: 0 done; 2 " in hccr_parser().format_help()


def test_list_names_models_and_recipes(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "brick_net" in printed and "kriuk_model3" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "prepare", "nothing.zip", "--out", "store"], "nothing.zip"),
        (["data", "show", "nothing"], "hccr data prepare"),
        (["train", "kriuk_model1", "--data", "nothing", "--workdir", "w"], "is no store"),
        (["fuse", "nothing.h5"], "There is no logits file nothing.h5"),
        (["model", "brick_net", "--model.depth", "3"], "argument of brick_net is called 'depth'"),
        (["model", "brick_net", "--model.num_brick", "3"], "Did you mean num_bricks?"),
        (["model", "brick_nett"], "Did you mean brick_net?"),
        (["train", "brick_model", "--data", "d", "--workdir", "w"], "Did you mean brick_model"),
        (["reproduce", "kriuk_tabel1", "--scale", "smoke"], "Did you mean kriuk_table1"),
        (["trian"], "No command is called 'trian'. Did you mean train?"),
        (["data", "prepar"], "No command is called 'prepar'. Did you mean prepare?"),
        (["train", "x", "--data", "d", "--workdir", "w", "--epoks", "3"], "mean --epochs"),
        (["reproduce", "all", "--scale", "smoek"], "'smoek'. Did you mean smoke?"),
        (["train", "x", "--data", "d", "--workdir", "w", "--epochs", "x"], "'x' is no int"),
        (["train"], "required: recipe, --data, --workdir (`hccr train --help`"),
    ],
)
def test_faults_are_one_line_with_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    errors = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]


def fail(error: BaseException):
    def run(**options):
        raise error

    return run


def interrupted_import() -> ImportError:
    """What a library makes of Ctrl-C during its own import."""
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "the disk is full"), 2, "error: [Errno 28] the disk is full"),
        (ModuleNotFoundError(name="sklearn"), 2, "pip install 'hccr_tf[audit]'"),
        (ModuleNotFoundError(name="fontTools.ttLib"), 2, "pip install 'hccr_tf[synthesis]'"),
        (ModuleNotFoundError(name="tensorflow"), 2, "pip install 'hccr_tf[tensorflow]', or [gpu]"),
        (KeyboardInterrupt(), 130, "The same command goes on"),
        (interrupted_import(), 130, "The same command goes on"),
        (FileNotFoundError("a\x1b[31m\u202eb.png"), 2, r"error: a\x1b[31m\u202eb.png"),
    ],
)
def test_what_ends_a_command_and_its_exit_code(error, code, message, capsys, monkeypatch):
    monkeypatch.setattr(COMMANDS["runs"], "run", fail(error), raising=True)
    assert main(["runs", "folder"]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), ModuleNotFoundError(name="hccr_tf.x"), ImportError("x")]
)
def test_a_bug_shows_its_traceback(error, monkeypatch):
    monkeypatch.setattr(COMMANDS["runs"], "run", fail(error))
    with pytest.raises(type(error)):
        main(["runs", "folder"])


def test_an_image_too_small_names_the_smallest_size(sample_store, tmp_path, capsys):
    command = ["train", "kriuk_model1", "--data", str(sample_store.path), "--image-size", "64"]
    assert main([*command, "--workdir", str(tmp_path / "run")]) == 2
    assert "86×86" in capsys.readouterr().err
