"""Our schedule for tens of thousands of images in place of millions, for any network.

The papers' schedules take 10,000 to 23,000 steps an epoch; this one converges in a few thousand.
"""

from typing import Any

from hccr_tf.data.loading.augmentation import RandomAffine

SMALL_DATA: dict[str, Any] = {
    "optimizer": "adamw",
    "optimizer_args": {"weight_decay": 1e-4, "clipnorm": 1.0},
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup_steps": 100,
    "augmentation": RandomAffine(amount=0.06, shift=0.03),
    "batch_size": 64,
}
