"""Random affine maps for training, as a pure function of (seed, epoch, position).

It is kept out of the model: random layers inside a network slow down or prevent its
compilation, and a batch that can be made again is what exact resume needs.
"""

from dataclasses import dataclass

import numpy as np

from hccr_tf.utils.errors import HccrError


@dataclass(frozen=True)
class RandomAffine:
    """A random linear map about the centre and a shift, drawn anew for each sample.

    Attributes:
        amount: standard deviation of each of the four matrix entries about the
            identity: rotation, scale and shear in one number. 0.08 is about 5
            degrees or 8 %.
        shift: standard deviation of the shift, as a fraction of the side.
    """

    amount: float = 0.0
    shift: float = 0.0

    def __post_init__(self):
        if not 0 <= self.amount < 0.5 or not 0 <= self.shift < 0.5:
            raise HccrError(
                f"amount and shift lie in [0, 0.5); these are {self.amount} and {self.shift}."
            )

    def __bool__(self) -> bool:
        return self.amount > 0 or self.shift > 0

    def draw(self, seed: int, epoch: int, step: int, count: int) -> np.ndarray:
        """Draws the maps of one batch, float64 (count, 2, 3), as `Preprocessing.apply` takes them.

        Normal draws are cut at three standard deviations, so no image leaves its frame.
        """
        # The last key keeps this stream apart from the one that shuffles.
        rng = np.random.default_rng((seed, epoch, step, 1))
        draws = np.clip(rng.standard_normal((count, 2, 3)), -3, 3)
        maps = draws * np.array([self.amount, self.amount, self.shift])
        maps[:, 0, 0] += 1
        maps[:, 1, 1] += 1
        return maps
