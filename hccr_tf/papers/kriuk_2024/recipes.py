"""Kriuk & Kriuk 2024: three brick networks on raw, 3×3- and 7×7-blurred images.

Paper: "Deep Learning-Driven Approach for Handwritten Chinese Character
Classification", sections 3.1 and 3.2, and its released code.

Command: python trainers/trainer1.py --data STORE --workdir RUN1   (2, 3 likewise), or
         hccr train kriuk_model1 --data STORE --workdir RUN1

Cost:    five bricks at 256×256 and 7,330 classes are 407 M parameters. An epoch of the
         paper is 23,000 steps of 128.
Result:  the paper reports 97.79 % for the fusion of the three (table 1).

`kriuk_*` are the paper's settings. `brick_*` are ours: the same networks, inputs, loss
and head weights under a schedule that converges in few steps. With
`--blur-size 256` blur comes before the image is made smaller, so that a small network sees
the blur the paper's network saw.
"""

from dataclasses import replace
from typing import Any

from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.papers.ours.small_data import SMALL_DATA
from hccr_tf.recipe import Recipe

# Section 3.1.3; 7×7 in the third (figure 6 and section 3.2 print 5×5, the code has 7×7). The five
# crops are of section 3.2.
_INPUTS = {
    "model1": ("raw images", Preprocessing(256, tta="five_crops")),
    "model2": ("3×3 blur", Preprocessing(256, blur_kernel=3, blur_sigma=20.0, tta="five_crops")),
    "model3": ("7×7 blur", Preprocessing(256, blur_kernel=7, blur_sigma=50.0, tta="five_crops")),
}

_SHARED: dict[str, Any] = {
    "model": "brick_net",
    "model_args": {"num_bricks": 5, "width": 32},  # section 3.1.1, code
    "loss": "categorical_focal",  # equation 2
    "loss_args": {"gamma": 4.0, "alpha": 0.25},  # section 3.1.2; alpha from the code
    "loss_weights": {  # section 3.1.2
        "main_output": 1.0,
        "aux_output1": 0.025,
        "aux_output2": 0.05,
        "aux_output3": 0.5,
        "aux_output4": 0.2,
    },
    "seed": 1,  # code
}

RECIPES = [
    *(
        Recipe(
            name=f"kriuk_{model}",
            description=f"Kriuk & Kriuk 2024, {what}, the paper's settings",
            preprocessing=preprocessing,
            batch_size=128,  # code
            optimizer="adam",  # code, Keras's defaults
            learning_rate=1e-3,  # code
            epochs=20,  # code
            patience=5,  # section 4, "until no change for five epochs"
            **_SHARED,
        )
        for model, (what, preprocessing) in _INPUTS.items()
    ),
    *(
        Recipe(
            name=f"brick_{model}",
            description=f"brick network, {what}, AdamW with warm-up, cosine and augmentation",
            # Ours: training and test images of one source can differ in their margins,
            # and crops of an image without a border cut off ink.
            preprocessing=replace(preprocessing, crop_ink=True, border=0.05),
            epochs=12,  # ours
            patience=12,  # ours: a cosine schedule is run to its end
            **_SHARED,
            **SMALL_DATA,  # ours
        )
        for model, (what, preprocessing) in _INPUTS.items()
    ),
]
