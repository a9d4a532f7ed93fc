r"""Chen, Xiao & Meng 2023: EfficientNetV2-S and InceptionV3 + GRU on Chinese MNIST.

Paper: "Handwritten Chinese Character Recognition with Neural Networks", section 4.

Command: hccr data prepare chinese_mnist/ --split writer --validation-split shuffle \\
             --validation-fraction 0.1 --out STORE
         hccr train chen_efficientnet_v2s --data STORE --workdir RUN

Cost:    0.24 G multiply–accumulates an image for EfficientNetV2-S at 64×64, 5.7 G for
         InceptionV3 + GRU at 299×299.
Result:  the paper reports validation accuracies of 93.14, 95.05 and 96.67 % (EfficientNetV2-S on
         70, 140 and 210 images a class) and 99.33, 98.33 and 99.00 % (InceptionV3 + GRU on 5,
         10 and 20 % of the data).

`chen_*` are the paper's settings, and begin with ImageNet weights, which Keras fetches;
`--weights FILE` takes them from a file, `--weights none` trains from scratch, and `--init-from RUN`
begins with another run's. `efficientnet_v2s` and `inception_v3_gru` are ours: the same networks
from scratch under a schedule for small data. `transfer` is ours: the paper's two stages for
weights of another run, and for any network (`--model`; one with fewer than 100 layers takes
`--stages` of its own). Where the paper is silent:

1. EfficientNetV2-S is given images of their own size, 64×64; an epoch of the whole set in 15 s
   leaves room for no more. Images are stretched.
2. The optimiser is Adam; EfficientNetV2-S has batches of 32 and the rate 1e-3 for the classifier,
   1e-4 for the rest.
3. 70, 140 and 210 images a class are those trained on, and 70 others validate: the printed
   accuracies are whole numbers of 1,050 images (`--samples-per-class 140`).
4. Of 5, 10 and 20 % of the data, a fifth validates: 40, 80, 160 images a class and 10, 20, 40
   others (`--samples-per-class 80 --validation-per-class 20`).
5. Dense layers and the GRU have 256 units, dropout is 0.2 and the noise 0.1 (`--model.units 128`).
   Noise and dropout act on the vectors that the GRU reads (`--model.noise_at images`).
6. InceptionV3 + GRU is trained as a whole for 20 epochs.
7. Nothing is stopped early in `chen_*`, as in the paper; `--patience 5` does, and `transfer` has
   it for each of its stages.
"""

from dataclasses import replace
from typing import Any

from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.papers.ours.small_data import SMALL_DATA
from hccr_tf.recipe import Recipe, Stage, Stages

_OURS: dict[str, Any] = {
    "loss": "cross_entropy",
    **SMALL_DATA,  # ours
    # Ours: images of several sources differ in their margins.
    "preprocessing": Preprocessing(64, crop_ink=True, border=0.05),
}

RECIPES = [
    Recipe(
        name="chen_efficientnet_v2s",
        description="Chen et al. 2023, EfficientNetV2-S from ImageNet, the paper's settings",
        model="efficientnet_v2s",
        model_args={"units": 256, "dropout": 0.2},  # reading 5
        weights="imagenet",  # section 4.1
        preprocessing=Preprocessing(64),  # reading 1
        loss="cross_entropy",
        optimizer="adam",  # reading 2
        learning_rate=1e-3,  # reading 2
        samples_per_class=70,  # section 4.1
        validation_per_class=70,  # reading 3
        batch_size=32,  # reading 2
        # Section 4.1; the rate is of reading 2.
        stages=Stages((Stage(10, "backbone"), Stage(10, 100, 1e-4))),
        epochs=20,  # section 4.1
        patience=20,  # section 5.2
    ),
    Recipe(
        name="chen_inception_v3_gru",
        description="Chen et al. 2023, InceptionV3 + GRU from ImageNet, the paper's settings",
        model="inception_v3_gru",
        model_args={"gru_units": 256, "units": 256, "noise": 0.1, "dropout": 0.2},  # reading 5
        weights="imagenet",  # section 4.2
        preprocessing=Preprocessing(299),  # section 4.2
        loss="cross_entropy",
        optimizer="adam",  # reading 2
        learning_rate=1e-4,  # section 4.2
        samples_per_class=40,  # reading 4
        validation_per_class=10,  # reading 4
        batch_size=40,  # section 4.2
        epochs=20,  # reading 6
        patience=20,  # section 5.2
    ),
    Recipe(
        name="efficientnet_v2s",
        description="EfficientNetV2-S from scratch, AdamW with warm-up, cosine and augmentation",
        model="efficientnet_v2s",
        epochs=10,  # ours
        patience=10,  # ours: a cosine schedule is run to its end
        **_OURS,
    ),
    Recipe(
        name="inception_v3_gru",
        description="InceptionV3 + GRU from scratch, AdamW with warm-up, cosine and augmentation",
        model="inception_v3_gru",
        epochs=10,  # ours
        patience=10,  # ours
        **{**_OURS, "preprocessing": replace(_OURS["preprocessing"], image_size=107)},
    ),
    Recipe(
        name="transfer",
        description="any network (--model) from another run (--init-from), in --stages",
        model="efficientnet_v2s",
        # Of any network's outputs; those that it doesn't have are passed over.
        loss_weights={"main_output": 1.0, "step*": 1.0, "aux_output*": 0.2},  # ours
        stages=Stages((Stage(10, "backbone"), Stage(10, 100, 3e-4))),  # ours, after section 4.1
        epochs=20,
        patience=5,  # ours, after section 5.2
        **{**_OURS, "batch_size": 32, "warmup_steps": 20},
    ),
]
