"""Melnyk, You & Li 2018: Melnyk-Net with three poolings.

Paper: "A High-Performance CNN Method for Offline Handwritten Chinese Character Recognition
and Visualization", section 4, and its released code.

Command: hccr train melnyk_c --data STORE --workdir RUN   (a and b likewise)

Cost:    1.2 G multiply–accumulates an image. An epoch of the paper is 10,462 steps of 256
         (CASIA-HWDB1.0-1.1); a run took two days on a GTX 1080 Ti.
Result:  the paper reports 97.38 (A), 97.55 (B) and 97.61 % (C) on ICDAR-2013.

`melnyk_*` are the paper's settings. On few data give the first phase the paper's number of
steps or a fitting share of them (`--first-steps`): one epoch of 24,000 images is 95 steps.
`melnyk_net_*` are ours: the same networks under a schedule that converges in few steps.
"""

from dataclasses import replace

from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.papers.ours.small_data import SMALL_DATA
from hccr_tf.recipe import Recipe

_POOLINGS = {
    "a": "global average pooling",
    "b": "global weighted output average pooling",
    "c": "global weighted average pooling",
}

# Section 4.1 and code: a square of white around the image, 88 pixels, a border of 4,
# inverted. The code's resize is Pillow's bilinear one, which averages where it shrinks, as
# ours does.
_INPUT = Preprocessing(96, fit="pad", border=4 / 96, invert=True)

RECIPES = [
    *(
        Recipe(
            name=f"melnyk_{letter}",
            description=f"Melnyk, You & Li 2018, {pooling}, the paper's settings",
            model=f"melnyk_net_{letter}",
            model_args={"l2": 1e-3, "dropout": 0.5},  # section 4.2
            preprocessing=_INPUT,
            loss="cross_entropy",
            optimizer="sgd",  # section 4.2
            optimizer_args={"momentum": 0.9},  # section 4.2
            learning_rate=0.1,  # section 4.2
            schedule="stall",  # section 4.2
            batch_size=256,  # section 4.2
            epochs=40,  # section 4.2
            patience=40,  # no early stopping in the paper
            seed=1996,  # code
        )
        for letter, pooling in _POOLINGS.items()
    ),
    *(
        Recipe(
            name=f"melnyk_net_{letter}",
            description=f"Melnyk-Net, {pooling}, AdamW with warm-up, cosine and augmentation",
            model=f"melnyk_net_{letter}",
            # Ours: the optimiser decays the weights.
            model_args={"l2": 0.0, "dropout": 0.5},
            # Ours: training and test images of one source can differ in their margins.
            preprocessing=replace(_INPUT, crop_ink=True),
            loss="cross_entropy",
            epochs=10,  # ours
            patience=10,  # ours: a cosine schedule is run to its end
            seed=1,  # ours
            **SMALL_DATA,  # ours
        )
        for letter, pooling in _POOLINGS.items()
    ),
]
