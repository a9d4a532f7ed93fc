"""Time and memory of a training step: the brick network beside its released form, every network.

  pip install tf_keras
  python benchmarks/train_step.py brick
  python benchmarks/train_step.py networks

`brick` trains the brick network of Kriuk & Kriuk 2024 at 256×256 and 7,330 classes on batches of 8,
as `hccr train kriuk_model1 --loss binary_focal` does, and the released code's form under Keras 2:
the same layers, loss and optimiser, a one-hot target for each of the five heads. They alternate,
each in a process of its own, on one thread; "keras adam" is ours with Keras's own optimiser.
`networks` takes every registered network at 3,755 classes, its own size and batches of 8, once.
Writes results/train_step_brick.csv and results/train_step_networks.csv; networks that are in the
file are passed over.

Seconds are medians of some steps after the first two, images prepared; those of the processor count
where other programs run. `peak_mb` is the most memory that the process held in these steps,
`least_mb` what weights, gradients and the optimiser's averages take. `gmac` are a step's
multiply–accumulates forward and back, three times those of its images.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from common import RESULTS, arguments_of, in_process

BRICK = {"image_size": 256, "loss": "binary_focal", "batch_size": 8}
STEPS = 3
# f, first kernel and inception widths a, b, c, d, e, g of the released code.
TABLE = [
    (32, 5, 32, 48, 64, 16, 32, 32),
    (64, 3, 64, 96, 128, 32, 64, 64),
    (128, 3, 128, 182, 256, 64, 128, 128),
    (256, 3, 256, 364, 512, 128, 256, 256),
]


def released_network(classes: int):
    """Builds the released network under Keras 2, of images in [0, 1]; the main head is the last."""
    import tf_keras
    from tf_keras import layers

    def conv(x, filters, kernel, strides=1, activation="relu"):
        return layers.Conv2D(
            filters, kernel, strides=strides, padding="same", activation=activation
        )(x)

    def head(x, classes, *dropout):
        x = layers.Dense(512, activation="relu")(layers.Flatten()(x))
        x = layers.Dense(256, activation="relu")(layers.Dropout(dropout[0])(x))
        return layers.Dense(classes)(layers.Dropout(dropout[1])(x) if dropout[1:] else x)

    image = layers.Input((256, 256, 1))
    x, outputs = image, []
    for f, kernel, a, b, c, d, e, g in TABLE:
        x = layers.BatchNormalization()(conv(x, f, kernel))
        x = layers.Dropout(0.2)(layers.MaxPooling2D()(x))
        shortcut = layers.BatchNormalization()(conv(x, f, 1, 2, None))
        x = layers.ReLU()(layers.BatchNormalization()(conv(x, f, 3, 2, None)))
        x = layers.BatchNormalization()(conv(x, f, 3, 1, None))
        x = layers.ReLU()(layers.Add()([shortcut, x]))
        pooled = layers.MaxPooling2D(3, strides=1, padding="same")(x)
        branches = [conv(x, a, 1), conv(conv(x, b, 1), c, 3), conv(conv(x, d, 1), e, 5)]
        x = layers.Concatenate()([*branches, conv(pooled, g, 1)])
        outputs.append(head(x, classes, 0.5))
    x = layers.Dropout(0.4)(layers.BatchNormalization()(conv(x, 512, 3)))
    return tf_keras.Model(image, [*outputs, head(x, classes, 0.6, 0.6)])


def released(batch: int, classes: int):
    """Compiles the released form; returns a function that trains a step."""
    import tf_keras

    model = released_network(classes)
    focal = tf_keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=True, gamma=4, from_logits=True
    )
    weights = [0.025, 0.05, 0.5, 0.2, 1.0]
    model.compile("adam", [focal] * 5, loss_weights=weights, metrics=[["accuracy"]] * 5)
    drawn = np.random.default_rng(0)
    images = drawn.random((batch, 256, 256, 1), np.float32)
    labels = np.eye(classes, dtype=np.float32)[drawn.integers(0, classes, batch)]
    return lambda: model.train_on_batch(images, [labels] * 5), {"parameters": model.count_params()}


def ours(name: str, settings: dict, classes: int):
    """Builds a recipe's network as `hccr train` does; returns a function that trains a step."""
    import keras

    from hccr_tf import get_recipe
    from hccr_tf.evaluation.complexity import count_macs
    from hccr_tf.training import compilation

    if name == "keras adam":
        name, compilation.optimizer_class = "kriuk_model1", lambda name: keras.optimizers.Adam
    recipe = get_recipe(name).override({"weights": None, **settings}, stages=())
    drawn = np.random.default_rng(0)
    shape = recipe.batch_size, *recipe.preprocessing.image_shape
    images = drawn.integers(0, 256, shape, "uint8")
    labels = drawn.integers(0, classes, recipe.batch_size, "int32")
    train = SimpleNamespace(labels=labels, charset=range(classes), steps_per_epoch=1000)
    model = compilation.build_network(recipe, classes, None)
    macs = 3 * recipe.batch_size * count_macs(model)
    compilation.compile_network(model, recipe, recipe.all_stages()[0], train)
    outputs = dict.fromkeys(model.output, labels)
    held = (*model.variables, *model.optimizer.variables, *model.trainable_variables)
    least = 4 * sum(int(np.prod(v.shape)) for v in held)
    about = {"parameters": model.count_params(), "least_mb": round(least / 1e6)}
    about |= {"gmac": round(macs / 1e9, 2)}
    return lambda: model.train_on_batch(images, outputs), about


def peak_mb() -> float:
    """Returns the most memory held since the counter was last set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


def measure(name: str, settings: dict, classes: int) -> dict:
    """Trains some steps in this process."""
    step, about = released(8, classes) if name == "released" else ours(name, settings, classes)
    wall, processor = [], []
    for _ in range(STEPS + 2):
        if len(wall) == 2:
            Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
        begun, used = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    seconds = {"seconds": wall, "processor_seconds": processor}
    seconds = {k: round(statistics.median(v[2:]), 4) for k, v in seconds.items()}
    return {**seconds, "peak_mb": round(peak_mb()), **about}


def brick(rounds: int) -> None:
    rows = []
    for number in range(rounds):
        for name in ("released", "keras adam", "kriuk_model1"):
            rows.append(
                {"round": number + 1, "form": name, **in_process(__file__, name, BRICK, 7330)}
            )
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(RESULTS / "train_step_brick.csv", index=False)


def networks() -> None:
    from hccr_tf.models import blueprint, list_models

    out = RESULTS / "train_step_networks.csv"
    rows = pd.read_csv(out).to_dict("records") if out.exists() else []
    for name in list_models():
        if any(row["network"] == name for row in rows):
            continue
        size = blueprint(name, num_classes=2).input.shape[1]
        settings = {"model": name, "image_size": size, "batch_size": 8}
        row = {"network": name, "size": size, **in_process(__file__, "transfer", settings, 3755)}
        row["gmac_a_second"] = round(row["gmac"] / row["processor_seconds"], 2)
        rows.append(row)
        print(row, flush=True)
        pd.DataFrame(rows).to_csv(out, index=False)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        print(json.dumps(measure(*json.loads(sys.argv[2]))))
        sys.exit()
    parser = arguments_of(__doc__)
    parser.add_argument("what", choices=("brick", "networks"))
    parser.add_argument("--rounds", type=int, default=3, help="of the brick network")
    options = parser.parse_args()
    networks() if options.what == "networks" else brick(options.rounds)
