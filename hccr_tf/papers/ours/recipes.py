"""The recogniser that comes with the package: all of GB2312 from drawn handwriting.

Command: hccr data strokes medians.json.gz FONT... --charset gb2312 --out STROKES
         hccr train recogniser --data STROKES --workdir RUN
         hccr train fine_tune --data STORE --workdir RUN

Cost:    0.11 G multiply–accumulates an image.
Result:  docs/recogniser.md has the log of what was trained and what it reads.

Images keep their aspect and are inverted, white ink on black, so that an empty place is 0 and
padding adds nothing. `fine_tune` goes on from these weights, or from any run of this network, with
real images: those of a class are a few or thousands.
"""

from typing import Any

from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.recipe import Recipe

_SHARED: dict[str, Any] = {
    "model": "compact_net",
    "model_args": {"blocks": [1, 1, 1, 2]},
    "preprocessing": Preprocessing(
        64, fit="pad", crop_ink=True, border=0.03, invert=True, tta="stretches"
    ),
    "loss": "cross_entropy",
    "optimizer": "adamw",
    "optimizer_args": {"weight_decay": 1e-4, "clipnorm": 1.0},
    "schedule": "cosine",
}

RECIPES = [
    Recipe(
        name="recogniser",
        description="the package's recogniser: GB2312 from stroke centre lines (hccr data strokes)",
        learning_rate=2e-3,
        warmup_steps=200,
        augmentation=RandomAffine(shift=0.01),
        batch_size=128,
        epochs=20,
        patience=20,
        mixed_precision="bfloat16",
        **_SHARED,
    ),
    Recipe(
        name="fine_tune",
        description="the package's recogniser on your own images, or another run (--init-from)",
        init_from="recogniser",
        learning_rate=5e-4,
        warmup_steps=50,
        augmentation=RandomAffine(amount=0.06, shift=0.02),
        batch_size=64,
        epochs=10,
        patience=10,
        **_SHARED,
    ),
]
