"""Why the store is memory-mapped bytes: the same images read at random from other formats.

    .venv/bin/python benchmarks/store_formats.py --store store

Writes the store's images as HDF5 (all bytes one after another with offsets; variable-length
rows; fixed 96×96 chunks) and as TFRecord, reads each in a shuffled order as uint8 arrays of their
own size, and writes results/store_formats.csv. "cold" has the files dropped from the system's
cache first. A TFRecord has no random access: it is read in file order through a shuffle buffer of
10,000, which is no global shuffle and cannot be resumed at a step; its row flatters it.
"""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from common import RESULTS, arguments_of

import hccr_tf

SIDE = 96

Read = Callable[[np.ndarray], Iterator[np.ndarray]]


def write_hdf5(store: hccr_tf.Store, path: Path, kind: str) -> None:
    count = len(store)
    with h5py.File(path, "w") as file:
        shapes = np.stack([store.heights, store.widths], axis=1)
        file["shapes"] = shapes
        if kind == "flat":
            areas = shapes.astype(np.int64).prod(axis=1)
            file["offsets"] = np.r_[0, np.cumsum(areas)]
            data = file.create_dataset("pixels", (areas.sum(),), np.uint8)
            for start in range(0, count, 1000):
                end = min(start + 1000, count)
                images = store.images(np.arange(start, end))
                pixels = np.concatenate([image.ravel() for image in images])
                data[file["offsets"][start] : file["offsets"][end]] = pixels
        elif kind == "vlen":
            data = file.create_dataset("pixels", (count,), h5py.vlen_dtype(np.uint8))
            for i in range(count):
                data[i] = store.image(i).ravel()
        else:
            data = file.create_dataset(
                "pixels", (count, SIDE, SIDE), np.uint8, chunks=(64, SIDE, SIDE)
            )
            for start in range(0, count, 1024):
                end = min(start + 1024, count)
                images = store.images(np.arange(start, end))
                block = np.full((end - start, SIDE, SIDE), 255, np.uint8)
                for place, image in zip(block, images, strict=True):
                    part = image[:SIDE, :SIDE]
                    place[: part.shape[0], : part.shape[1]] = part
                data[start:end] = block


def hdf5_reader(path: Path, kind: str) -> Read:
    def read(order: np.ndarray) -> Iterator[np.ndarray]:
        with h5py.File(path) as file:
            data, shapes = file["pixels"], file["shapes"][:]
            offsets = file["offsets"][:] if kind == "flat" else None
            for i in order.tolist():
                if kind == "flat":
                    yield data[offsets[i] : offsets[i + 1]].reshape(shapes[i])
                elif kind == "vlen":
                    yield data[i].reshape(shapes[i])
                else:
                    yield data[i]

    return read


def write_tfrecord(store: hccr_tf.Store, path: Path) -> None:
    import tensorflow as tf

    def feature(values: list[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in range(len(store)):
            image = store.image(i)
            pixels = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()]))
            features = {"pixels": pixels, "shape": feature(list(image.shape))}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def tfrecord_reader(path: Path) -> Read:
    def read(order: np.ndarray) -> Iterator[np.ndarray]:
        import tensorflow as tf

        spec = {
            "pixels": tf.io.FixedLenFeature((), tf.string),
            "shape": tf.io.FixedLenFeature((2,), tf.int64),
        }

        def parse(record):
            example = tf.io.parse_single_example(record, spec)
            return tf.reshape(tf.io.decode_raw(example["pixels"], tf.uint8), example["shape"])

        dataset = tf.data.TFRecordDataset(str(path)).shuffle(10_000, seed=1)
        dataset = dataset.map(parse, num_parallel_calls=2).prefetch(64).take(len(order))
        yield from dataset.as_numpy_iterator()

    return read


def store_reader(store: hccr_tf.Store) -> Read:
    def read(order: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(order), 128):
            yield from store.images(order[start : start + 128])

    return read


def drop_from_cache(paths: list[Path]) -> None:
    os.sync()
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def rate(read: Read, order: np.ndarray) -> float:
    begin = time.perf_counter()
    total = 0
    for image in read(order):
        total += int(image[0, 0]) + int(image[-1, -1])  # Each image's pages are touched.
    return len(order) / (time.perf_counter() - begin)


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default=str(RESULTS / "store_formats.csv"))
    options = parser.parse_args()
    given = hccr_tf.Store(options.store)
    rows = []
    with tempfile.TemporaryDirectory(dir=Path(options.store).parent) as folder:
        root = Path(folder)
        shutil.copytree(given.path, root / "store")
        formats: dict[str, tuple[list[Path], Callable[[], Read]]] = {
            "store (memory-mapped bytes)": (
                list((root / "store").glob("images-*.bin")),
                # Opened anew: pages that are mapped cannot be dropped.
                lambda: store_reader(hccr_tf.Store(root / "store")),
            )
        }
        for kind, title in (
            ("flat", "HDF5, one array of bytes and offsets"),
            ("vlen", "HDF5, rows of variable length"),
            ("chunked", f"HDF5, {SIDE}×{SIDE} in chunks of 64"),
        ):
            path = root / f"{kind}.h5"
            write_hdf5(given, path, kind)
            formats[title] = ([path], lambda path=path, kind=kind: hdf5_reader(path, kind))
        path = root / "images.tfrecord"
        write_tfrecord(given, path)
        formats["TFRecord, shuffle buffer"] = ([path], lambda: tfrecord_reader(path))
        rng = np.random.default_rng(0)
        measured: dict[str, list[tuple[float, float]]] = {title: [] for title in formats}
        for _ in range(options.rounds):
            for title, (paths, make) in formats.items():
                order = rng.permutation(len(given))[: min(len(given), 20_000)]
                drop_from_cache(paths)
                cold = rate(make(), order)
                for file in paths:
                    file.read_bytes()
                measured[title].append((cold, rate(make(), order)))
        for title, (paths, _) in formats.items():
            cold, warm = np.median(measured[title], axis=0)
            rows.append(
                {
                    "format": title,
                    "warm_images_per_s": round(warm),
                    "cold_images_per_s": round(cold),
                    "megabytes": round(sum(p.stat().st_size for p in paths) / 1e6, 1),
                    "images": len(given),
                    "rounds": options.rounds,
                    "data_hash": given.data_hash[:16],
                    "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
                    "command": "python benchmarks/store_formats.py --store store",
                }
            )
    table = pd.DataFrame(rows)
    best = table["warm_images_per_s"].iloc[0]
    table.insert(2, "warm_ratio_to_store", (table["warm_images_per_s"] / best).round(3))
    print(table.drop(columns=["hardware", "command"]).to_string(index=False))
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
