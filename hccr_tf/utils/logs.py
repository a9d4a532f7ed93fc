"""What the package reports while it works: log records in Python, lines for users of commands."""

import logging
import sys


class _PrintHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warned = record.levelno >= logging.WARNING
        print(self.format(record), file=sys.stderr if warned else sys.stdout, flush=True)


def print_logs() -> None:
    """Has the package's records of level INFO and above printed; the commands begin with it."""
    logger = logging.getLogger("hccr_tf")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(_PrintHandler())
