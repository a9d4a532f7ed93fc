"""Yang et al. 2017: the multi-scale residual block cascade with iterative refinement.

Paper: "Improving Offline Handwritten Chinese Character Recognition by Iterative Refinement",
sections III and IV-B.

Command: hccr train yang_mrbc_ir --data STORE --workdir RUN

Cost:    M-RBC takes 0.644 G multiply–accumulates an image at 64×64, refinement a tenth of
         that on top at 3,755 classes.
Result:  the paper reports 95.97 (ConvNet), 96.34 (ResNet), 96.84 (M-RBC) and with refinement
         96.64, 97.04, 97.37 % on ICDAR-2013.

`refined` puts refinement on any network: `--model.backbone melnyk_net_c --model.maps feature_map`,
`--model.backbone_args "{'width': 32}"`.

`yang_*` are the paper's settings: its rate halves each epoch, which adds up to two epochs at the
first rate however long the run. `convnet` … `mrbc_ir` are ours: the same networks under a schedule
for small data. Where the paper is silent:

1. The blocks stand R R P R R P R R, so a2, a5 and a8 are the last maps of the three scales; the
   first block's shortcut is a 1×1 projection (`--model.blocks 2 2 2 --model.project_first false`).
2. Input 64×64 with K = 64 channels, N = 5376 vectors (`--image-size`, `--model.width`); 32×32 with
   K = 128 is the alternative. Images are stretched, grey levels 0 to 1.
3. The GRU's state is s ∈ R^512 with s_0 = 0, its input the context alone, the prediction
   p_t = softmax(FC s_t); attention is asked with p_{t-1}, p_0 = 1/C. No biases, and the reset
   gate before the product, as in eqs. 11 to 13 (`--model.gru_bias true --model.reset_after true`).
4. The loss is the mean of the T steps' cross-entropies (`'--loss-weights.step*' 0`: of the last
   only).
5. The attention's width A is 128 (`--model.attention_width`).
6. Without refinement the vectors' mean goes into a dense layer (`--model.pooled max`). "ConvNet"
   is the cascade without its shortcuts, "ResNet" without the union of the scales. With
   refinement, these arguments are those of the backbone of `refined` (below).
7. Batch 128 and 10 epochs (`--batch-size`, `--epochs`), neither of which it gives.
"""

from typing import Any

from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.papers.ours.small_data import SMALL_DATA
from hccr_tf.recipe import Recipe

_TITLES = {"convnet": "12 convolutions", "resnet": "residual blocks", "mrbc": "M-RBC"}
_NETWORKS = {
    **{name: (title, {"width": 64}) for name, title in _TITLES.items()},
    **{
        f"{name}_ir": (
            f"{title}, iterative refinement",
            {"width": 64, "steps": 4, "attention_width": 128, "units": 512},  # section IV-B
        )
        for name, title in _TITLES.items()
    },
}

_LOSS: dict[str, Any] = {
    "loss": "cross_entropy",
    "loss_weights": {"main_output": 1.0, "step*": 1.0},  # reading 4
    "loss_reduction": "mean",
}

_PAPER: dict[str, Any] = {
    "preprocessing": Preprocessing(64),  # reading 2
    "optimizer": "sgd",  # section IV-B
    "optimizer_args": {"momentum": 0.9},  # section IV-B
    "learning_rate": 1e-3,  # section IV-B
    "schedule": "halve",  # section IV-B
    "batch_size": 128,  # reading 7
    "epochs": 10,  # reading 7
    "patience": 10,  # reading 7
}

_OURS: dict[str, Any] = {
    **SMALL_DATA,  # ours
    # Ours: training and test images of one source can differ in their margins.
    "preprocessing": Preprocessing(64, crop_ink=True, border=0.05),
    "epochs": 10,  # ours
    "patience": 10,  # ours: a cosine schedule is run to its end
}

RECIPES = [
    *(
        Recipe(
            name=f"{prefix}{model}",
            description=f"{source}{title}, {what}",
            model=model,
            model_args=arguments,
            **_LOSS,
            **settings,
        )
        for prefix, source, what, settings in (
            ("yang_", "Yang et al. 2017, ", "the paper's settings", _PAPER),
            ("", "", "AdamW with warm-up, cosine and augmentation", _OURS),
        )
        for model, (title, arguments) in _NETWORKS.items()
    ),
    Recipe(
        name="refined",
        description="iterative refinement over the maps of any network (--model.backbone NAME)",
        model="refined",
        model_args={"backbone": "mrbc", "maps": "scale1,scale2,feature_map"},
        **_LOSS,
        **_OURS,
    ),
]
