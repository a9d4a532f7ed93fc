"""Inputs by kind, damaged at random, and what the package does with them.

A kind is a generator function: it makes sound inputs in a folder, then takes random generators and
tries one damaged input with each. What an input may end with is an answer or an error that the
commands print by name; see `ENDINGS`.
"""

import logging
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hccr_tf.utils.errors import HccrError

ENDINGS = (HccrError, OSError)
"""Errors that name the input and the remedy; `hccr` prints them as one line."""

Attempt = Callable[[random.Random], Any]
KINDS: dict[str, Callable[[Path], Attempt]] = {}


@dataclass
class Verdict:
    """How many inputs ended how; `others` are the seeds of those that may not end so."""

    kind: str
    tried: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0  # seconds
    others: dict[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.kind}: tried {self.tried:,}, accepted {self.accepted:,}, refused by name "
            f"{self.refused:,}, other endings {len(self.others)}, slowest {self.slowest:.2f} s"
        )


def kind(make: Callable[[Path], Attempt]) -> Callable[[Path], Attempt]:
    """Registers a kind under its function's name."""
    KINDS[make.__name__] = make
    return make


def fuzz(
    name: str, folder: Path, seeds: range, seconds: float = 1e9, begin=lambda seed: None
) -> Verdict:
    """Tries an input for each seed, until the time is over.

    Args:
        name: of the kind.
        folder: an empty one.
        seeds: of the damage; the same seed gives the same input.
        seconds: after which no other input is tried.
        begin: called with each seed before it's tried.
    """
    logging.disable()  # of checkpoints passed over, a line each
    attempt, verdict = KINDS[name](folder), Verdict(name)
    end = time.monotonic() + seconds
    for seed in seeds:
        if (started := time.monotonic()) > end:
            break
        begin(seed)
        try:
            attempt(random.Random(seed))
            verdict.accepted += 1
        except ENDINGS:
            verdict.refused += 1
        except Exception:
            verdict.others[seed] = traceback.format_exc()
        verdict.tried += 1
        verdict.slowest = max(verdict.slowest, time.monotonic() - started)
    logging.disable(logging.NOTSET)
    return verdict
