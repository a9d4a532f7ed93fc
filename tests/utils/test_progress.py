"""The one bar: there on a terminal and nowhere else."""

import sys

import pytest

from hccr_tf.utils.progress import track


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_items_pass_beside_a_bar(terminal, wanted, monkeypatch, capfd):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert list(track(iter("abc"), "looking", 3, wanted)) == ["a", "b", "c"]
    assert ("looking" in capfd.readouterr().err) == (terminal and wanted)
