"""Memory of iterative refinement in training, for one image, against A, T and N.

  KERAS_BACKEND=jax .venv/bin/python benchmarks/refinement_memory.py

Compiles the gradient of the refinement's loss with JAX, from the vectors on, at 3,755 classes, and
asks the compiler for its temporary memory with two batch sizes; their difference is what further
images take. Writes results/refinement_memory.csv. `formula_mb` is what must be kept for the
gradient in float32: N·A for the keys and at every step, and N·K for the vectors; `n_times_c_mb` is
one array of vectors × classes, which is never made.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import pandas as pd
from common import RESULTS

CLASSES, CHANNELS = 3755, 64
BATCHES = (2, 6)
SIDES = {336: 16, 1344: 32, 5376: 64}  # sides of the images with so many vectors
DEFAULT = {"attention_width": 128, "steps": 4, "side": 64}
SETTINGS = [
    DEFAULT,
    *({**DEFAULT, "attention_width": width} for width in (32, 512)),
    *({**DEFAULT, "steps": steps} for steps in (1, 2, 8)),
    *({**DEFAULT, "side": side} for side in (16, 32)),
]


def temporary_bytes(batch: int, side: int, steps: int, attention_width: int) -> int:
    import jax

    from hccr_tf.models import create_model

    model = create_model(
        "mrbc_ir",
        num_classes=CLASSES,
        image_shape=(side, side, 1),
        width=CHANNELS,
        steps=steps,
        attention_width=attention_width,
    )
    vectors = model.get_layer("union").output
    head = keras.Model(vectors, model.output)
    values = [v.value for v in head.trainable_variables]
    others = [v.value for v in head.non_trainable_variables]

    def loss(values, vectors, labels):
        outputs, _ = head.stateless_call(values, others, vectors, training=True)
        losses = [
            keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            for logits in outputs.values()
        ]
        return keras.ops.mean(keras.ops.stack(losses))

    shapes = (
        jax.ShapeDtypeStruct((batch, *vectors.shape[1:]), "float32"),
        jax.ShapeDtypeStruct((batch,), "int32"),
    )
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    return gradient.lower(values, *shapes).compile().memory_analysis().temp_size_in_bytes


def main() -> None:
    rows = []
    for settings in SETTINGS:
        small, large = (temporary_bytes(batch, **settings) for batch in BATCHES)
        places = {side: n for n, side in SIDES.items()}[settings["side"]]
        width, steps = settings["attention_width"], settings["steps"]
        rows.append(
            {
                "A": width,
                "T": steps,
                "N": places,
                "mb_per_image": round((large - small) / (BATCHES[1] - BATCHES[0]) / 1e6, 2),
                "formula_mb": round(4 * places * ((steps + 1) * width + CHANNELS) / 1e6, 2),
                "n_times_c_mb": round(4 * places * CLASSES / 1e6, 1),
            }
        )
        print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(RESULTS / "refinement_memory.csv", index=False)


if __name__ == "__main__":
    main()
