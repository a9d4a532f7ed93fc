"""Stop requests: Ctrl-C and SIGTERM, noted for training to leave in good order."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator


class Interrupted(KeyboardInterrupt):
    """Training left on a signal, after it had saved."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number  # as shells count


class StopRequest:
    """Notes the first signal, for the loop to leave at its next step; a second one ends at once."""

    def __init__(self):
        self.number = 0  # the signal's
        self.since = 0.0  # when it came, by `time.monotonic`

    @contextlib.contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Takes SIGINT and SIGTERM for the time of the block, in a program's main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number, frame):
            if self.number:
                raise KeyboardInterrupt
            self.number, self.since = number, time.monotonic()

        for number in earlier:
            signal.signal(number, note)
        try:
            yield self
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
