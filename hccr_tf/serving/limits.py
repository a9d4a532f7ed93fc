"""What a server takes, at most; a flag of `hccr serve` each."""

import math
from dataclasses import asdict, dataclass

from hccr_tf.utils.errors import HccrError


@dataclass(frozen=True)
class Limits:
    """What a server takes, at most.

    Attributes:
        max_megabytes: of 10^6 bytes that a request may have (default 16)
        max_megapixels: that an image may have (default 50)
        max_images: that a request may bring (default 32)
        max_waiting: requests that are read at once or wait for their answer, before others are
            refused with status 429 (default 64)
        max_batch: images that wait are read together until there are so many (default 32)
        timeout: seconds in which a request must be there and answered (default 30)
    """

    max_megabytes: float = 16
    max_megapixels: float = 50
    max_images: int = 32
    max_waiting: int = 64
    max_batch: int = 32
    timeout: float = 30

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not 0 < value < math.inf:
                raise HccrError(f"--{name.replace('_', '-')} is a number above 0, not {value}.")
