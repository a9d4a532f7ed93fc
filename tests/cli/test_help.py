"""Help of each command: about a screen, and an example that runs on the files of `make demo`."""

import shutil

import pytest
import shell

from hccr_tf.cli.flags import COMMANDS
from hccr_tf.cli.main import main
from hccr_tf.recipe import SETTINGS, flag

# One runs until it's stopped (tests/e2e/test_serve.py), one takes a file that others published.
ELSEWHERE = {"serve", "import"}
# The tests' sample has fewer validation images than the demo's.
BEHIND = {"calibrate": " --split test"}


def help_of(name: str, capsys, *flags: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main([*name.split(), *(flags or ["--help"])])
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_about_a_screen(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert len(help_of(name, capsys).splitlines()) <= 60


def test_all_settings_are_in_the_long_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    short, every = help_of("train", capsys), help_of("train", capsys, "--help-all")
    assert all(f"\n  {flag(name)}" in every for name in SETTINGS)
    assert "--epochs" in short and "--warmup-steps" not in short
    assert "--style.turn " in help_of("data strokes", capsys, "--help-all")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ELSEWHERE])
def test_the_example_runs_on_the_demo(name, demo_results, tmp_path, monkeypatch, capsys):
    examples = help_of(name, capsys).partition("Example")[2].partition("\n\n")[0]
    lines = [line for line in shell.lines(examples) if line.startswith("hccr")] or ["hccr list"]
    first = next(i for i, line in enumerate(lines) if line.startswith(f"hccr {name}"))
    shutil.copytree(demo_results, tmp_path / "runs" / "demo")
    for folder in ("docs", "hccr_tf"):
        (tmp_path / folder).symlink_to(shell.ROOT / folder)
    monkeypatch.chdir(tmp_path)
    lines[first] += BEHIND.get(name, "")
    assert [shell.run(line) for line in lines[: first + 1]] == [0] * (first + 1)
