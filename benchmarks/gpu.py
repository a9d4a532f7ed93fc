"""A part of `make gpu`: trainings on a GPU where there may be little time and no network.

  make gpu-pack DATA=store STROKES=graphics.txt   # anywhere: packs build/gpu
  make gpu                                        # where the GPU is, with that folder and JAX
  KERAS_BACKEND=tensorflow make gpu               # or with TensorFlow

Each part is a process of its own and leaves its results when it ends, so that one that fails, or a
machine that is taken away, costs the others nothing; started again, it goes on where it was. The
folder --out then holds

gpu.csv       a row a training: images a second and the share of the time that it waited for input,
              in its last epoch; compile_seconds, of its steps alone; the most memory; TFLOP/s, six
              times the multiply-accumulates, and their share of the card's peak in bfloat16.
              By a trial before it, in images a second: trial_loader, alone; steps without one:
              one an execution, several, and several whose batch is on the device already
accuracy.csv  test accuracies by network, and fused
*.tar         each run, its kernels in eight bits (`hccr pack`)
"""

import argparse
import contextlib
import itertools
import platform
import resource
import shutil
import tempfile
import time
from pathlib import Path

import keras
import pandas as pd

from hccr_tf import Predictor, fuse, get_recipe, predict_split, train
from hccr_tf.data.opening import open_dataset
from hccr_tf.data.store.format import STROKES_FORMAT
from hccr_tf.evaluation.complexity import count_macs
from hccr_tf.export.pack import pack
from hccr_tf.inference.fusion import search_weights
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.compilation import blueprint_of, build_network, compile_network
from hccr_tf.training.keras_data import open_split
from hccr_tf.training.trainer import MANY_IMAGES
from hccr_tf.utils import backend
from hccr_tf.utils.files import write_csv

MODELS = ("kriuk_model1", "kriuk_model2", "kriuk_model3")
# Dense bfloat16 in TFLOP/s, by the maker's data sheets; the first name that the device's holds.
PEAKS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "L4": 121}
EXECUTIONS = 8  # of a trial


class Repeated(keras.utils.PyDataset):
    """One batch, over and over."""

    def __init__(self, batch, number: int):
        super().__init__()
        self._batch, self._number = batch, number

    def __len__(self):
        return self._number

    def __getitem__(self, index):
        return self._batch


def trial(recipe, data) -> dict:
    """Measures steps without the loader and the loader without steps, in images a second."""
    backend.prepare_fit()
    loader = open_split(recipe, data, data.charset, "train")
    model = build_network(recipe, len(data.charset), None)
    images, labels, _ = loader.batch(0, 0)
    targets, size = dict.fromkeys(model.output, labels), recipe.batch_size

    def speed(number: int, images=images) -> float:
        begun = time.perf_counter()
        model.fit(Repeated((images, targets), number), verbose=0)
        return number * size / (time.perf_counter() - begun)

    measured: dict[str, float] = {}
    stride = recipe.steps_per_execution
    for steps, column in ((1, "trial_single"), (stride, "trial_steps")):
        compile_network(
            model, recipe.override(steps_per_execution=steps), recipe.all_stages()[0], loader
        )
        first = steps * size / speed(steps)
        measured[column] = round(speed(EXECUTIONS * stride), 1)
        measured.setdefault("compile_seconds", round(first - steps * size / measured[column], 1))
    if keras.backend.backend() == "jax":
        on_device = keras.ops.convert_to_tensor(images)
        measured["trial_on_device"] = round(speed(EXECUTIONS * stride, on_device), 1)
    drawn = data.manifest["format"] == STROKES_FORMAT and len(loader) >= MANY_IMAGES
    with loader.processes() if drawn else contextlib.nullcontext():
        batches = itertools.islice(loader.batches(epochs=None), 1 + 4 * loader.workers)
        next(batches)
        begun = time.perf_counter()
        count = sum(len(batch.labels) for batch in batches)
        measured["trial_loader"] = round(count / (time.perf_counter() - begun), 1)
    keras.utils.clear_session()
    return measured


def training(part: str, options) -> dict:
    """Tries a part's network, trains it for its minutes, and packs it; returns its row."""
    work = options.pack / "work"
    drawn = part == "recogniser"
    minutes = options.recogniser_minutes if drawn else options.minutes
    data = open_dataset(work / ("strokes" if drawn else "store"))
    settings = {"mixed_precision": "bfloat16", "steps_per_execution": options.steps_per_execution}
    if drawn:
        settings |= {"batch_size": options.recogniser_batch_size}
    else:
        settings |= {"batch_size": options.batch_size, "image_size": options.image_size}
        settings |= {"model.num_bricks": options.num_bricks, "passes": options.passes}
        settings |= {"epochs": 100_000, "patience": 100_000}  # time ends it
    recipe = get_recipe(part).override(settings)
    measured = trial(recipe, data)
    if drawn:  # the cosine ends with the time
        speed = min(measured["trial_loader"], measured["trial_steps"])
        epochs = max(1, int(60 * minutes * speed / (1.1 * len(data.indices("train")))))
        recipe = recipe.override(epochs=epochs, patience=epochs)
    workdir = Workdir(work / "runs" / part)
    if workdir.exists():  # it goes on as it was begun
        recipe = workdir.recipe
    train(recipe, data, workdir.path, minutes=minutes, init_from=part if drawn else None)
    run, history = workdir.read_run(), workdir.read_history()
    macs = count_macs(blueprint_of(recipe, len(data.charset)))
    tflops = 6 * macs * run["images_per_second"] / 1e12
    device, memory = device_facts()
    peak = next((value for name, value in PEAKS.items() if name in device), None)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        packed = pack(workdir.path, Path(folder) / part)
        shutil.make_archive(str(options.out / part), "tar", folder, part)
    return {
        "minutes": round(run["train_seconds"] / 60, 2),
        "device": device,
        "data_hash": data.data_hash[:16],
        "image_size": recipe.preprocessing.image_size,
        "batch_size": recipe.batch_size,
        "images_per_second": run["images_per_second"],
        "input_wait": run["input_wait"],
        "memory_gb": memory,
        "gmacs": round(macs / 1e9, 4),
        "tflops": round(tflops, 6),
        "share_of_peak": round(tflops / peak, 4) if peak else None,
        "epochs": len(history),
        "steps": history[-1]["step"],
        "best_val_accuracy": run["best_val_accuracy"],
        "packed_mb": round(packed / 1e6, 2),
        **measured,
    }


def device_facts() -> tuple[str, float]:
    """Returns the device's name, and the most memory that this process had on it, in GB."""
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        if stats := device.memory_stats():
            return device.device_kind, round(stats["peak_bytes_in_use"] / 1e9, 2)
    elif keras.distribution.list_devices("gpu"):
        import tensorflow as tf

        details = tf.config.experimental.get_device_details(
            tf.config.list_physical_devices("GPU")[0]
        )
        most = tf.config.experimental.get_memory_info("GPU:0")["peak"]
        return details["device_name"], round(most / 1e9, 2)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"CPU {platform.machine()}", round(most / 1e6, 2)


def accuracies(options) -> dict:
    """Reads validation and test by the runs there are, and fuses the networks; returns a row."""
    work, table = options.pack / "work", []
    runs = {name: work / "runs" / name for name in MODELS}
    runs = {n: path for n, path in runs.items() if (path / "prediction.safetensors").exists()}
    for split in ("validation", "test"):
        for name, path in runs.items():
            predict_split(path, work / "store", work / f"{split}-{name}.h5", split=split)
    files = [[work / f"{split}-{name}.h5" for name in runs] for split in ("validation", "test")]
    for kind, weights in {"default": None, "searched": search_weights(files[0])[0]}.items():
        metrics = fuse(files[1], work / f"fused-{kind}", weights=weights)
        told = " ".join(f"{weight:g}" for weight in metrics["weights"])
        read = {f"fused, {kind} weights {told}": metrics["fused"]}
        if weights is None:
            read |= dict(zip(runs, metrics["models"].values(), strict=True))
        for name, entry in read.items():
            for views, crops in (("logits", "five"), ("logits_center", "centre")):
                low, high = entry[views]["top1_interval95"]
                row = {"read_by": name, "crops": crops, "top1": entry[views]["top1"]}
                table.append({**row, "low95": low, "high95": high})
    # Real handwriting, of which the recogniser has seen none; before its training here, and behind.
    for name in ("recogniser", work / "runs" / "recogniser"):
        trained = name == "recogniser" or (name / "prediction.safetensors").exists()
        if trained and set(open_dataset(work / "store").charset) <= set(Predictor(name).charset):
            found = predict_split(name, work / "store", work / "test-recogniser.h5")["logits"]
            low, high = found["top1_interval95"]
            read_by = "recogniser" if name == "recogniser" else "recogniser, trained on"
            row = {"read_by": read_by, "crops": "stretches", "top1": found["top1"]}
            table.append({**row, "low95": low, "high95": high})
    write_csv(options.out / "accuracy.csv", pd.DataFrame(table))
    print(pd.DataFrame(table).to_string(index=False))
    return {"device": device_facts()[0], "best_test_accuracy": max(row["top1"] for row in table)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=[*MODELS, "recogniser", "accuracies"])
    for name, default, text in (
        ("--pack", Path("build/gpu"), "the carried folder, unpacked"),
        ("--out", Path("results/gpu"), "folder for the results"),
        ("--minutes", 1.5, "of each of the three networks"),
        ("--recogniser-minutes", 1.5, ""),
        ("--image-size", 256, ""),
        ("--num-bricks", 5, ""),
        ("--batch-size", 128, ""),
        ("--recogniser-batch-size", 512, ""),
        ("--passes", 20, "over the store between two validations"),
        ("--steps-per-execution", 16, ""),
    ):
        parser.add_argument(name, type=type(default), default=default, help=f"{text} ({default})")
    options = parser.parse_args()
    part, path = options.part, options.out / "gpu.csv"
    options.out.mkdir(parents=True, exist_ok=True)
    others = pd.read_csv(path).to_dict("records") if path.exists() else []
    if any(row["part"] == part and row["state"] == "done" for row in others):
        print(f"{part} is done")
        return

    def note(state: str, **facts) -> None:
        row = {"part": part, "state": state, "backend": keras.backend.backend(), **facts}
        kept = [other for other in others if other["part"] != part]
        write_csv(path, pd.DataFrame([*kept, row]))
        print(row, flush=True)

    note("running")  # what stays of a process that is killed
    try:
        note("done", **(accuracies(options) if part == "accuracies" else training(part, options)))
    except Exception as error:
        note(f"failed: {error}"[:200])
        raise


if __name__ == "__main__":
    main()
