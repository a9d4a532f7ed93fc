"""What users see of a command: the package's log records, and text that any terminal can say."""

import io
import logging
import os
import sys
import unicodedata


def printable(text: str, lines: bool = False) -> str:
    """Escapes what a name may hold and a terminal must not get.

    Bytes that are no UTF-8 (Python marks them), control characters, marks that turn the direction
    of writing or show nothing; with `lines` line ends stay.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in hidden and c not in kept
        else c
        for c in text
    )


def escape_output() -> None:
    """Has what's printed in UTF-8 in files and pipes; a terminal escapes what it can't say."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            own = stream.isatty() or "PYTHONIOENCODING" in os.environ
            stream.reconfigure(encoding=None if own else "utf-8", errors="backslashreplace")


class _PrintHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warned = record.levelno >= logging.WARNING
        message = printable(self.format(record), lines=True)
        print(message, file=sys.stderr if warned else sys.stdout, flush=True)


def print_logs() -> None:
    """Has the package's records of level INFO and above printed; the commands begin with it."""
    logger = logging.getLogger("hccr_tf")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(_PrintHandler())
