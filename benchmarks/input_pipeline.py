"""How many images a second reach the network: our input pipeline and the released loader.

  .venv/bin/python benchmarks/input_pipeline.py --store STORE

STORE is any store with some thousand images, made by `hccr data prepare`.

Each row is one way to get batches: the loader of the paper's released code
(`ImageDataGenerator.flow_from_directory` over PNG files, OpenCV's blur as its
preprocessing function), our NumPy iterator and our tf.data pipeline (three epochs an
iterator, without the clock that `train` adds for its report of waiting); raw, with a 3×3 blur
(σ 20) and with a 7×7 blur (σ 50), at 256×256, and raw at 96×96. Both sides read the same
images, in whole epochs, one way after another and all of them in each round. The
released loader's files are written from the store, at the size at which it holds them, to
a folder that's removed again.

`fit` takes batches from tf.data on TensorFlow and from the NumPy reader on other backends.

A row's `images_per_second` is the median over the rounds; `ratio` divides it by that of
the released loader with the same blur at 256×256, `share_of_copy` by the machine's limit:
copying as many bytes from one array to another, by two threads. `elsewhere` says how many
processors other programs took meanwhile.

Beside the CSV a JSON file of the same name says where the time of an image goes.
"""

import contextlib
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import timeit
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
import pandas as pd
from common import RESULTS, arguments_of

from hccr_tf import Loader, Preprocessing, Store
from hccr_tf.data.loading.tf_dataset import tf_dataset

INPUTS = ((256, "raw"), (256, "3x3"), (256, "7x7"), (96, "raw"))
BLURS = {"raw": (0, 0.0), "3x3": (3, 20.0), "7x7": (7, 50.0)}
# Goals, in multiples of the released loader.
GOALS = {(256, "raw"): 12, (256, "3x3"): 8, (256, "7x7"): 6, (96, "raw"): 16}
# That one iterator of ours reads; the released loader takes seconds for one as it is. `train`
# begins an iterator an epoch, which costs tf.data about 35 ms each: nothing in epochs of
# real length, but a fifth of a raw one of 10,000 images.
EPOCHS = 3
DISTURBED = 0.1  # processors that other programs take
# === Released loader ===


def write_png_folder(store: Store, indices: np.ndarray, folder: Path) -> None:
    """One folder a class, as `flow_from_directory` reads it."""
    for index, image in zip(indices.tolist(), store.images(indices), strict=True):
        path = folder / f"{store.labels[index]:05d}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)


def released_loader(folder: Path, blur: str, batch_size: int):
    """The released code's iterator. Without its scaling, as ours leave that to the network."""
    import tensorflow as tf

    kernel, sigma = BLURS[blur]

    def blurred(image):
        return cv2.GaussianBlur(image, (kernel, kernel), sigma).reshape(image.shape)

    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        preprocessing_function=blurred if kernel else None
    )
    with contextlib.redirect_stdout(sys.stderr):  # it prints how many files it found
        return generator.flow_from_directory(
            folder,
            target_size=(256, 256),
            color_mode="grayscale",
            class_mode="sparse",
            batch_size=batch_size,
            seed=1,
        )


def read_released(iterator) -> None:
    """As `fit` does by its default, which is one thread."""
    for _ in range(len(iterator)):
        next(iterator)


def read_released_in_two_threads(iterator) -> None:
    """As `fit` would with `workers=2`; without its queue, which costs some more."""
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(iterator.__getitem__, range(len(iterator))):
            pass


# === Ours ===


def reader(store: Store, indices: np.ndarray, size: int, blur: str, batch_size: int, **arguments):
    kernel, sigma = BLURS[blur]
    preprocessing = Preprocessing(size, blur_kernel=kernel, blur_sigma=sigma)
    made = Loader(store, "all", preprocessing, batch_size, shuffle=True, seed=1, **arguments)
    made.indices, made.labels = indices, store.labels[indices]
    return made


def read_numpy(batches: Loader, epochs: int = EPOCHS) -> None:
    for _ in batches.batches(epochs=epochs):
        pass


def read_tf(batches: Loader) -> None:
    for _ in tf_dataset(batches, ["main_output"], epochs=EPOCHS):
        pass


def read_cold(path: Path, indices: np.ndarray, batch_size: int) -> None:
    """Of a copy that nobody else has mapped: mapped pages can't be dropped."""
    forget(list(path.iterdir()))
    read_numpy(reader(Store(path), indices, 256, "raw", batch_size), epochs=1)


def read_released_cold(iterator, folder: Path) -> None:
    forget(list(folder.rglob("*.png")))
    read_released(iterator)


def forget(paths) -> None:
    """Has the system drop the files from its cache."""
    os.sync()
    for path in paths:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# === The machine's limit ===


def copy_bytes(num_images: int, size: int, batch_size: int) -> None:
    """Copies as many bytes as the batches have, by two threads, between warm arrays."""
    num_bytes = batch_size * size * size
    arrays = [np.ones((4, num_bytes), np.uint8) for _ in range(2)]

    def copy(step: int) -> None:
        half = step % 2 * 2
        arrays[step % 2][half + 1] = arrays[step % 2][half]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(copy, range(8)))
        start = time.perf_counter()
        for _ in pool.map(copy, range(num_images // batch_size)):
            pass
        copy_bytes.seconds = time.perf_counter() - start


# === Measuring ===


def busy_seconds() -> float:
    """Processor seconds of all programs since the machine was started."""
    try:
        user = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:  # not Linux
        return float("nan")
    values = [int(value) for value in user]
    return (sum(values) - values[3] - values[4]) / os.sysconf("SC_CLK_TCK")


def measure(function, num_images: int) -> dict[str, float]:
    busy, own, start = busy_seconds(), time.process_time(), time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    own = time.process_time() - own
    elsewhere = max(0.0, busy_seconds() - busy - own)
    return {
        "images_per_second": num_images / seconds,
        "processors_used": own / seconds,
        "elsewhere": elsewhere / seconds,
    }


def cases(
    store: Store, indices: np.ndarray, folder: Path, batch_size: int, cold: Path
) -> dict[tuple, tuple]:
    """Functions that read whole epochs, and how many, by (loader, size, blur, dtype)."""
    found: dict[tuple, tuple] = {}
    for blur in BLURS:
        released = released_loader(folder, blur, batch_size)
        key = 256, blur, "float32"
        found["released", *key] = partial(read_released, released), 1
        found["released, two threads", *key] = partial(read_released_in_two_threads, released), 1
    for size, blur in INPUTS:
        ours = reader(store, indices, size, blur, batch_size)
        found["NumPy iterator", size, blur, "uint8"] = partial(read_numpy, ours), EPOCHS
        found["tf.data", size, blur, "uint8"] = partial(read_tf, ours), EPOCHS
    shutil.copytree(store.path, cold)
    ours = partial(read_cold, cold, indices, batch_size)
    found["NumPy iterator, files not in memory", 256, "raw", "uint8"] = ours, 1
    released = partial(read_released_cold, released_loader(folder, "raw", batch_size), folder)
    found["released, files not in memory", 256, "raw", "float32"] = released, 1
    return found


# === Where the time goes ===


def microseconds(function, num_images: int, repeats: int = 5) -> float:
    best = min(timeit.repeat(function, number=1, repeat=repeats))
    return round(best / num_images * 1e6, 2)


def profile(store: Store, indices: np.ndarray, batch_size: int) -> dict:
    """Microseconds of one image, in one thread where nothing else is said."""
    result = {}
    steps = 20
    count = steps * batch_size
    for size, blur in INPUTS:
        ours = reader(store, indices, size, blur, batch_size)
        kernel, sigma = BLURS[blur]
        order = indices[ours.order(0)[:count]]
        images = store.images(order)
        squares = np.zeros((batch_size, size, size), np.uint8)

        def resize(images=images, squares=squares, size=size):
            for i, image in enumerate(images):
                shrinks = max(image.shape) > size
                method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
                cv2.resize(image, (size, size), squares[i % len(squares)], 0, 0, method)

        def blur_each(kernel=(kernel, kernel), sigma=sigma, squares=squares, size=size):
            out = np.empty((size, size), np.uint8)
            for i in range(count):
                cv2.GaussianBlur(squares[i % len(squares)], kernel, sigma, out)

        def batches(ours=ours):
            for step in range(steps):
                ours.batch(0, step)

        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            part = {
                "store": microseconds(lambda o=order: store.images(o), count),
                "resize": microseconds(resize, count),
                "blur, each image by itself": microseconds(blur_each, count) if kernel else 0.0,
                "batch": microseconds(batches, count),
            }
        finally:
            cv2.setNumThreads(before)
        part["blur, as done, with Python and all else"] = round(
            part["batch"] - part["resize"] - part["store"], 2
        )
        part["most that two processors could do, images per second"] = round(2e6 / part["batch"])
        result[f"{size} {blur}"] = part
    return result


def hand_over(store: Store, indices: np.ndarray, batch_size: int) -> dict:
    """Microseconds a batch from the reader to the loop, with batches that are there already."""
    ours = reader(store, indices, 256, "raw", batch_size)
    ready = ours.batch(0, 0)
    ours.batch = lambda epoch, step: ready
    steps = EPOCHS * ours.steps_per_epoch
    return {
        "NumPy iterator": microseconds(partial(read_numpy, ours), steps),
        "tf.data": microseconds(partial(read_tf, ours), steps),
    }


def versions() -> str:
    names = ("hccr_tf", "tensorflow", "keras", "numpy", "opencv-python-headless", "pillow")
    there = {d.name: d.version for d in metadata.distributions()}
    return ", ".join(f"{name} {there[name]}" for name in names if name in there)


def summary(speeds: list[float]) -> dict[str, float]:
    return {
        "images_per_second": round(statistics.median(speeds)),
        "lowest": round(min(speeds)),
        "highest": round(max(speeds)),
        "rounds": len(speeds),
    }


def rows(results: dict[tuple, list[dict]], copies: dict[int, list[float]]) -> pd.DataFrame:
    """The CSV's rows from measurements by case."""
    table = pd.DataFrame(
        [
            {
                **dict(zip(("loader", "size", "blur", "dtype"), key, strict=True)),
                **summary([m["images_per_second"] for m in measured]),
                **{
                    name: round(statistics.median(m[name] for m in measured), 2)
                    for name in ("processors_used", "elsewhere")
                },
            }
            for key, measured in results.items()
        ]
    )
    speeds = table.set_index(["loader", "blur"])["images_per_second"]
    for suffix in ("", ", two threads"):
        released = table["blur"].map(speeds[f"released{suffix}"])
        table[f"ratio{suffix}"] = (table["images_per_second"] / released).round(2)
    ours = table["loader"].isin(["NumPy iterator", "tf.data"])
    limit = table["size"].map({size: statistics.median(values) for size, values in copies.items()})
    table["share_of_copy"] = (table["images_per_second"] / limit).round(3)[
        table["dtype"] == "uint8"
    ]
    goals = zip(table["size"], table["blur"], strict=True)
    table["goal"] = pd.Series([GOALS.get(goal) for goal in goals])[ours]
    limits = [
        {"loader": "copy of the same bytes, two threads", "size": size, **summary(values)}
        for size, values in copies.items()
    ]
    return pd.concat([table, pd.DataFrame(limits)], ignore_index=True)


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--store", type=Path, required=True, help="a store of `hccr data prepare`")
    out = RESULTS / "input_pipeline.csv"
    parser.add_argument("--out", type=Path, default=out, help="CSV; the JSON goes beside it")
    parser.add_argument("--images", type=int, default=10_000, help="of the store (default 10000)")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each way (default 5)")
    again = "how often to measure again where other programs took over 0.1 processors (default 2)"
    parser.add_argument("--retries", type=int, default=2, help=again)
    parser.add_argument("--batch-size", type=int, default=128, help="default 128")
    options = parser.parse_args()
    store = Store(options.store)
    everything = store.indices("all")
    count = min(options.images, len(everything))
    indices = np.sort(np.random.default_rng(1).permutation(everything)[:count])
    shared = {
        "images": count,
        "batch_size": options.batch_size,
        "data_hash": store.data_hash[:16],
        "command": f"python benchmarks/input_pipeline.py --store STORE --images {count} "
        f"--rounds {options.rounds} --batch-size {options.batch_size}",
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
    }
    print("profile …", file=sys.stderr, flush=True)
    where = profile(store, indices, options.batch_size)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hccr-png-")))
        write_png_folder(store, indices, folder)
        cold = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hccr-store-")))
        functions = cases(store, indices, folder, options.batch_size, cold / "copy")
        results: dict = {key: [] for key in functions}
        copies: dict = {256: [], 96: []}
        for round_number in range(-1, options.rounds):  # the first warms up
            for key, (function, epochs) in functions.items():
                for _ in range(1 + options.retries * (round_number >= 0)):
                    found = measure(function, epochs * count)
                    if not found["elsewhere"] > DISTURBED:
                        break
                if round_number >= 0:
                    results[key].append(found)
                    print(
                        f"round {round_number + 1}: {', '.join(map(str, key)):60}"
                        f"{found['images_per_second']:10,.0f}/s  "
                        f"{found['elsewhere']:.2f} processors elsewhere",
                        file=sys.stderr,
                        flush=True,
                    )
            for size, speeds in copies.items():
                num_images = 50_000 // options.batch_size * options.batch_size
                copy_bytes(num_images, size, options.batch_size)
                if round_number >= 0:
                    speeds.append(num_images / copy_bytes.seconds)
    where["hand-over of a batch"] = hand_over(store, indices, options.batch_size)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table = rows(results, copies).assign(**shared)
    table.to_csv(options.out, index=False)
    description = {
        "unit": "microseconds an image, one thread; of the hand-over microseconds a batch",
        **shared,
        **where,
    }
    options.out.with_suffix(".json").write_text(json.dumps(description, indent=1) + "\n")
    print(table.drop(columns=list(shared)).to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()
