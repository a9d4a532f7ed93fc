"""Whether drawing images holds up training: both on one thread, in turns, in one run.

  export OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
  .venv/bin/python benchmarks/stroke_generator.py --strokes STROKES

Times a batch of the recogniser's recipe: drawn (generator), prepared (crop, resize), and learnt
(a training step of its network). Writes results/stroke_generator.csv.
"""

import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from common import RESULTS, arguments_of

from hccr_tf.data.loading.loader import Loader
from hccr_tf.models import MAIN_OUTPUT, create_model
from hccr_tf.papers.recipes import get_recipe
from hccr_tf.synthesis.dataset import StrokeDataset

ROUNDS = 12


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--strokes", type=Path, required=True, help="store of hccr data strokes")
    options = parser.parse_args()
    store = StrokeDataset(options.strokes)
    recipe = get_recipe("recogniser")
    size = recipe.batch_size
    reader = Loader(store, "train", recipe.preprocessing, size, shuffle=True)
    keras.config.set_dtype_policy(f"mixed_{recipe.mixed_precision}")
    model = create_model(
        recipe.model, num_classes=len(store.charset), image_shape=recipe.preprocessing.image_shape
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(recipe.optimizer, {MAIN_OUTPUT: loss}, jit_compile=False)
    seconds: dict[str, list[float]] = {}

    def timed(name, work):
        start = time.perf_counter()
        result = work()
        seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    for number in range(ROUNDS + 2):
        indices = reader.indices[reader.order(0)[number * size : (number + 1) * size]]
        drawn = timed("drawn", lambda i=indices: store.images(i))
        images = timed("prepared", lambda p=drawn: reader.preprocessing.apply_many(p))
        labels = store.labels_for(store.charset, indices)
        timed("learnt", lambda x=images, y=labels: model.train_on_batch(x, {MAIN_OUTPUT: y}))
    medians = {name: float(np.median(values[2:])) for name, values in seconds.items()}
    table = pd.DataFrame(
        [
            {
                "step": name,
                "ms_per_image": round(1000 * value / size, 4),
                "share_of_learning": round(value / medians["learnt"], 4),
            }
            for name, value in medians.items()
        ]
    )
    table["store"] = store.data_hash[:16]
    table.to_csv(RESULTS / "stroke_generator.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
