"""What processes that work side by side need."""

import os
import signal


def num_cores() -> int:
    """Counts the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def ignore_signals() -> None:
    """Leaves Ctrl-C and SIGTERM, which may reach all processes at once, to the first of them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
