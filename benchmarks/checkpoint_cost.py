"""What checkpoints cost a training run.

    .venv/bin/python benchmarks/checkpoint_cost.py --store store

Trains the brick network for some steps without checkpoints within the epoch and with one every
few steps, in turns, and measures every save. From both follows the share of the time that saving
takes at the default interval of ten minutes, where it would take hours to measure it directly:
seconds a save over seconds an interval. Writes results/checkpoint_cost.csv.
"""

import os
import platform
import shutil
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from common import RESULTS, arguments_of

import hccr_tf
from hccr_tf.data.store.store import Store
from hccr_tf.training.checkpoints import CheckpointInterval, Checkpoints


class Clock:
    """Times of saves and of steps, taken from within the run."""

    def __init__(self):
        self.saves: list[float] = []
        self.steps: list[float] = []


def measure(recipe, store: Store, workdir: Path, every: int | None, clock: Clock) -> float:
    """Trains one epoch; returns the seconds of its steps after the first ones."""
    save, begin_step = Checkpoints.save, keras.callbacks.CallbackList.on_train_batch_begin

    def timed_save(self, *arguments, **settings):
        begin = time.perf_counter()
        path = save(self, *arguments, **settings)
        clock.saves.append(time.perf_counter() - begin)
        clock.megabytes = path.stat().st_size / 1e6
        return path

    marks: list[float] = []

    def marked(self, *arguments, **settings):
        marks.append(time.perf_counter())
        return begin_step(self, *arguments, **settings)

    Checkpoints.save = timed_save
    keras.callbacks.CallbackList.on_train_batch_begin = marked
    try:
        hccr_tf.train(
            recipe, store, workdir, checkpoints=CheckpointInterval(minutes=None, steps=every)
        )
    finally:
        Checkpoints.save = save
        keras.callbacks.CallbackList.on_train_batch_begin = begin_step
    clock.saves.pop()  # The one at the end of the epoch.
    # The first steps hold the building of the graph.
    return marks[-1] - marks[5]


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--recipe", default="brick_model1")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--bricks", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=512, help="large, so an epoch is short")
    parser.add_argument("--every", type=int, default=10, help="steps between checkpoints")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", default=str(RESULTS / "checkpoint_cost.csv"))
    options = parser.parse_args()
    store = Store(options.store)
    recipe = hccr_tf.get_recipe(options.recipe).override(
        image_size=options.image_size,
        **{"model.num_bricks": options.bricks},
        batch_size=options.batch_size,
        epochs=1,
    )
    steps = -(-len(store.indices("train")) // options.batch_size)
    clock, without, saving = Clock(), [], []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.rounds):
            for every, into in ((None, without), (options.every, saving)):
                workdir = Path(folder) / f"{i}-{every}"
                into.append(measure(recipe, store, workdir, every, clock))
                shutil.rmtree(workdir)
    a_save = float(np.median(clock.saves))
    interval = max(60 * CheckpointInterval().minutes, a_save / 0.02)
    counted = steps - 6
    row = {
        "recipe": f"{options.recipe}, {options.image_size}×{options.image_size}, "
        f"{options.bricks} bricks, batch {options.batch_size}",
        "backend": keras.backend.backend(),
        "checkpoint_megabytes": round(clock.megabytes, 1),
        "seconds_a_save": round(a_save, 3),
        "step_seconds_without": round(float(np.median(without)) / counted, 3),
        f"step_seconds_saving_every_{options.every}": round(float(np.median(saving)) / counted, 3),
        "share_at_default_interval": f"{100 * a_save / interval:.2f} %",
        "rounds": options.rounds,
        "data_hash": store.data_hash[:16],
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": "python benchmarks/checkpoint_cost.py --store store "
        f"--image-size {options.image_size} --model.num_bricks {options.bricks} "
        f"--batch-size {options.batch_size} --every {options.every} --rounds {options.rounds}",
    }
    print(pd.Series(row).to_string())
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
