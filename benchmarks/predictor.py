"""Five crops and three models: `predict_split` and `fuse` beside the released predictors' loop.

  pip install tf_keras
  python benchmarks/predictor.py

The released predictors of Kriuk & Kriuk 2024 read a PNG at a time, cut its five crops by
TensorFlow's operations and call `predict` of the network of all five heads under Keras 2 for them.
Repaired is what they would read wrongly: one channel, the stretch and the blur of training, the
main head alone, logits fused in place of probabilities. Ours takes the same weights and images, of
a store. Both are at 256×256 and 7,330 classes; weights are random ones, images drawn. For each
model they alternate, each in a process of its own, on one thread. Writes results/predictor.csv.

Seconds are those of the released loop alone, after its first image, and those of all of
`predict_split`, with building and compiling the network and reading its weights.
`largest_difference` is that of the fused logits, as a share of their standard deviation.
"""

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, arguments_of, in_process

CLASSES = 7330
KERNELS = {"model1": (0, 0), "model2": (3, 20), "model3": (7, 50)}  # side, σ
SIZE, RESIZED = 256, 280


def prepare_images(folder: Path, count: int) -> None:
    """Draws a store whose test split has so many images, and the same images as PNG files."""
    from input_pipeline import write_png_folder

    from hccr_tf import prepare
    from hccr_tf.synthesis.sample import generate_gnt

    characters = "一二三四五六七八"
    per_writer = -(-count // len(characters))
    writers = {"num_writers": 1, "num_test_writers": 1, "samples_per_writer": per_writer}
    generate_gnt(folder / "gnt", characters=characters, **writers)
    store = prepare([folder / "gnt"], folder / "store", progress=False)
    write_png_folder(store, store.indices("test"), folder / "png")


def released(folder: Path, model: str) -> dict:
    """Makes a model's weights and reads the PNG files by the released loop, repaired."""
    import cv2
    import tensorflow as tf
    import tf_keras
    from train_step import released_network

    tf_keras.utils.set_random_seed(int(model[-1]))
    network = released_network(CLASSES)
    main = tf_keras.Model(network.input, network.output[-1])
    main.save_weights(folder / f"{model}.h5")
    kernel, sigma = KERNELS[model]

    def stretch(image):
        shrinks = max(image.shape) > RESIZED
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = cv2.resize(image, (RESIZED, RESIZED), interpolation=method)
        return cv2.GaussianBlur(image, (kernel, kernel), sigma) if kernel else image

    def load(path):
        image = tf.io.decode_png(tf.io.read_file(path), channels=1)
        image = tf.numpy_function(stretch, [image], tf.uint8)
        image = tf.reshape(image, (RESIZED, RESIZED, 1))
        return tf.image.convert_image_dtype(image, tf.float32)

    def crops_of(image):
        image = tf.image.resize(image, [RESIZED, RESIZED])
        cut = partial(tf.image.crop_to_bounding_box, target_height=SIZE, target_width=SIZE)
        end = RESIZED - SIZE
        corners = [cut(image, y, x) for y in (0, end) for x in (0, end)]
        return tf.stack([tf.image.resize_with_crop_or_pad(image, SIZE, SIZE), *corners])

    # In the store's order, by its numbers.
    paths = sorted((folder / "png").rglob("*.png"), key=lambda path: int(path.stem))
    files = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    crops = tf.TensorSpec((5, SIZE, SIZE, 1), tf.float32)
    logits = []
    for number, batch in enumerate(files.map(load).batch(1)):
        if number == 1:
            begun, used = time.perf_counter(), time.process_time()
        cut = tf.reshape(tf.map_fn(crops_of, batch, fn_output_signature=crops), (-1, SIZE, SIZE, 1))
        logits.append(network.predict(cut, batch_size=128, verbose=0)[-1].mean(axis=0))
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    whole = len(paths) / (len(paths) - 1)
    np.save(folder / f"{model}.npy", logits)
    return {"seconds": seconds * whole, "processor_seconds": used * whole}


def ours(folder: Path, model: str) -> dict:
    """Reads the store's images with the same weights by `predict_split`."""
    from hccr_tf import get_recipe, predict_split
    from hccr_tf.charset import Charset
    from hccr_tf.papers.melnyk_2018.importing import import_keras2

    charset = Charset(tuple(chr(0x4E00 + number) for number in range(CLASSES)))
    recipe = get_recipe(f"kriuk_{model}")
    run = import_keras2(folder / f"{model}.h5", recipe, charset, folder / model)
    begun, used = time.perf_counter(), time.process_time()
    predict_split(run.path, folder / "store", folder / f"{model}_logits.h5")
    return {"seconds": time.perf_counter() - begun, "processor_seconds": time.process_time() - used}


def compare(folder: Path) -> dict:
    """Fuses both sides' logits; returns how far they differ and how long `fuse` takes."""
    from hccr_tf import fuse
    from hccr_tf.inference.fusion import PAPER_WEIGHTS
    from hccr_tf.inference.logits_file import open_same_samples

    paths = [folder / f"{model}_logits.h5" for model in KERNELS]
    begun, used = time.perf_counter(), time.process_time()
    fuse(paths, folder / "fused")
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    with open_same_samples(paths) as files:
        stacked = [file.logits(slice(0, len(file))) for file in files]
    mine = sum(w * z for w, z in zip(PAPER_WEIGHTS, stacked, strict=True))
    theirs = [np.load(folder / f"{model}.npy") for model in KERNELS]
    theirs = sum(w * z for w, z in zip(PAPER_WEIGHTS, theirs, strict=True))
    difference = float(abs(mine - theirs).max() / theirs.std())
    same = int((mine.argmax(axis=1) == theirs.argmax(axis=1)).sum())
    return {
        "seconds": seconds,
        "processor_seconds": used,
        "largest_difference": difference,
        "same_answers": same,
    }


PARTS = {"prepare": prepare_images, "released": released, "ours": ours, "compare": compare}


def main(count: int, rounds: int) -> None:
    rows = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            in_process(__file__, "prepare", folder, count)
            about = {"round": number + 1, "images": count}
            found = {side: [] for side in ("released", "ours")}
            for model in KERNELS:
                for side, times in found.items():
                    times.append(in_process(__file__, side, folder, model))
                    print(side, model, times[-1], flush=True)
            fused = in_process(__file__, "compare", folder)
        found["ours"].append({k: v for k, v in fused.items() if "seconds" in k})
        sums = {side: pd.DataFrame(times).sum() for side, times in found.items()}
        for side, times in sums.items():
            rows.append({**about, "form": side, **times.round(2)})
        ratio = sums["released"] / sums["ours"]
        rows[-1] |= {f"{kind}_ratio": round(value, 2) for kind, value in ratio.items()}
        rows[-1] |= {k: v for k, v in fused.items() if "seconds" not in k}
        print(rows[-2], rows[-1], sep="\n", flush=True)
        pd.DataFrame(rows).to_csv(RESULTS / "predictor.csv", index=False)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        part, folder, *rest = json.loads(sys.argv[2])
        print(json.dumps(PARTS[part](Path(folder), *rest)))
        sys.exit()
    parser = arguments_of(__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    main(options.images, options.rounds)
