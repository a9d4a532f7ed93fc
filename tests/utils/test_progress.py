"""The one bar: there on a terminal and nowhere else."""

import sys

import pytest

from hccr_tf.utils.progress import progress_bar, track


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_items_pass_beside_a_bar(terminal, wanted, monkeypatch, capfd):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert list(track(iter("abc"), "looking", 3, wanted)) == ["a", "b", "c"]
    assert ("looking" in capfd.readouterr().err) == (terminal and wanted)


def test_a_narrow_terminal_cuts_the_end_of_the_note(monkeypatch, capfd):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    with progress_bar("epoch 12/20", 181, done=122) as advance:
        advance(1, "123/181, 2 d 7 h left in all, loss 1.1511, accuracy 36.72 %, 12 images/s")
    shown = next(line for line in capfd.readouterr().err.split("\r") if "123" in line)
    assert "epoch 12/20 " in shown and "123/181, 2 d 7 h left in all, loss 1.1511" in shown
