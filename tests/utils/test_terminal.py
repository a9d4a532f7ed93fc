import os
import subprocess
import sys
from pathlib import Path

import pytest

from hccr_tf.utils.terminal import printable

REPO = Path(__file__).parents[2]


def test_what_a_terminal_must_not_get_is_escaped():
    plain = "实 · ň«¬/0001_A (2).png"
    assert printable(plain) == plain
    for name, escaped in (
        ("\x1b[31mred", r"\x1b[31mred"),
        ("gnp.\u202etxt", r"gnp.\u202etxt"),
        ("a\u200b\u2066b\ufeff", r"a\u200b\u2066b\ufeff"),
        (os.fsdecode(b"\xb3\xe8.png"), r"\udcb3\udce8.png"),
        ("a\r\nb\tc\u2028", r"a\r\nb\tc\u2028"),
        ("\x9b", r"\x9b"),
    ):
        assert printable(name) == escaped
        assert printable(f"{name}\n", lines=True).endswith("\n")


def command(*arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "hccr_tf", *arguments],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("environment", "encoding"),
    [
        ({"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}, "utf-8"),
        ({"PYTHONIOENCODING": "cp1252"}, "cp1252"),
        ({"PYTHONIOENCODING": "ascii"}, "ascii"),
    ],
)
def test_pipes_take_what_is_printed_in_any_locale(sample_store, tmp_path, environment, encoding):
    sheet = str(tmp_path / "sheet.png")
    process = command("data", "show", str(sample_store.path), "--sheet", sheet, **environment)
    out, _ = process.communicate()
    characters = "万三九" if encoding == "utf-8" else r"\u4e07\u4e09\u4e5d"
    assert characters in out.decode(encoding)


@pytest.mark.e2e
@pytest.mark.parametrize("help", [True, False])
def test_a_reader_that_stops_reading_is_no_error(sample_store, tmp_path, help):
    arguments = ["data", "show", str(sample_store.path), "--sheet", str(tmp_path / "sheet.png")]
    with command("--help") if help else command(*arguments) as process:
        process.stdout.close()
        assert process.wait() == (0 if help else 141)
        assert process.stderr.read() == b""
