"""What the package reports while it works: log records in Python, lines for users of commands."""

import logging


class _PrintHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


def print_logs() -> None:
    """Has the package's records of level INFO and above printed; the commands begin with it."""
    logger = logging.getLogger("hccr_tf")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(_PrintHandler())
