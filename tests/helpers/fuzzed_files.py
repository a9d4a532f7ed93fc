"""The package's own files, and requests to its server, damaged: kinds of `fuzzing`."""

import base64
import contextlib
import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
from fuzzed_data import image_files
from fuzzing import Attempt, kind
from mutations import damage, damage_json
from photographs import written

from hccr_tf.utils.errors import HccrError


def _set(path: Path, data: bytes) -> None:
    if path.exists() and path.read_bytes() == data:
        return  # writing takes a hundred times as long
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _choose(files: dict[Path, bytes], draw: random.Random) -> None:
    """Writes sound files, one of them damaged."""
    damaged = draw.choice(sorted(files))
    for path, data in files.items():
        if path == damaged:
            is_json = path.suffix == ".json" and draw.randrange(3)
            data = damage_json(data, draw) if is_json else damage(data, draw)
        _set(path, data)


@kind
def schemas(folder: Path) -> Attempt:
    """Runs' small files, calibration, charsets and reports' about.json, by their schemas."""
    from hccr_tf.charset import Charset
    from hccr_tf.inference.recognizer import read_temperature
    from hccr_tf.pretrained import FOLDER
    from hccr_tf.runs.listing import compare, runs_table
    from hccr_tf.runs.workdir import Workdir

    names = ("recipe", "charset", "preprocessing", "environment", "run")
    files = {folder / f"{name}.json": (FOLDER / f"{name}.json").read_bytes() for name in names}
    files[folder / "history.csv"] = (FOLDER / "history.csv").read_bytes()
    files[folder / "calibration.json"] = b'{"temperature": 1.1}'
    short = Charset.from_text("一二三四")
    short.save(folder / "charset.json")
    files[folder / "charset.json"] = (folder / "charset.json").read_bytes()

    def attempt(draw: random.Random) -> None:
        _choose(files, draw)
        run = Workdir(folder)
        assert run.preprocessing.image_size <= 4096
        assert isinstance(run.hardware, str) and len(run.charset)
        assert 0 < read_temperature(folder) < 1e6
        run.read_history()
        runs_table(folder)
        compare(folder, FOLDER, folder.parent / "curves.png") if draw.randrange(50) == 0 else None
        Charset.open(folder)

    return attempt


@kind
def networks(folder: Path) -> Attempt:
    """Runs whose recipe or weights are damaged, as `Predictor` opens them."""
    from untrained import untrained_run

    from hccr_tf.inference.predictor import Predictor

    run = untrained_run(folder / "run", "compact_net", width=4, blocks=(1, 1, 1, 1))
    files = {path: path.read_bytes() for path in run.iterdir()}

    def attempt(draw: random.Random) -> None:
        _choose(files, draw)
        predictor = Predictor(run)
        side = predictor.preprocessing.image_size
        image = np.zeros((1, side, side, 1), np.uint8)  # uncompiled, in a fifth of the time
        assert all(np.isfinite(logits).all() for logits in predictor.model(image).values())

    return attempt


@kind
def logits(folder: Path) -> Attempt:
    """Logits files: damaged, and made anew with a checksum that's right."""
    import h5py

    from hccr_tf.charset import Charset
    from hccr_tf.inference.logits_file import open_same_samples, seal, write_logits

    charset, path, other = Charset.from_text("一二三四"), folder / "a.h5", folder / "b.h5"
    rng, attributes = (
        np.random.default_rng(0),
        {"recipe": {"name": "x"}, "split": "test", "blur": True},
    )
    values = rng.standard_normal((9, 4)).astype(np.float32)
    for file in (path, other):
        with write_logits(file, 9, charset, attributes, center=True) as add:
            add(np.arange(9) % 4, [f"字/{i}.png" for i in range(9)], values, values)
    sound = path.read_bytes()

    def change(file: h5py.File, draw: random.Random) -> None:
        name = draw.choice(("logits", "logits_center", "labels", "sample_ids"))
        kind, data = draw.randrange(10), file[name][:]
        if kind == 0:
            file.attrs[draw.choice([*file.attrs])] = draw.choice(
                (1, np.nan, "x", b"\xff", b"{", [1, 2])
            )
            return
        if kind == 1:
            del file.attrs[draw.choice([*file.attrs])]
            return
        del file[name]
        if kind == 2:
            file[name] = h5py.SoftLink("/labels")
        elif kind == 3:
            file[name] = h5py.ExternalLink(str(other), f"/{name}")
        elif kind == 4:
            external = [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
            file.create_dataset(name, data.shape, data.dtype, external=external)
        elif kind == 5:
            rows = draw.choice((1, 3, 10**9, 10**15))
            file.create_dataset(
                name, (rows, *data.shape[1:]), data.dtype, chunks=(1, *data.shape[1:])
            )
        elif kind == 6:
            file.create_dataset(name, data=["x"] * 9, dtype=h5py.string_dtype())
        elif kind == 7:
            file.create_group(name)
        elif kind == 8:
            file[name] = (
                data.astype(draw.choice(("f8", "i8", "S3", "f2")))
                if name != "sample_ids"
                else values
            )
        else:
            data = data.copy()
            data.view(np.uint8).flat[draw.randrange(data.nbytes)] ^= 1 << draw.randrange(8)
            file.create_dataset(
                name,
                data=data,
                dtype=h5py.string_dtype(length=64) if name == "sample_ids" else None,
            )

    def attempt(draw: random.Random) -> None:
        if draw.randrange(2):
            path.write_bytes(damage(sound, draw))
        else:
            path.write_bytes(sound)
            with h5py.File(path, "r+") as file:
                change(file, draw)
            seal(path)
        with open_same_samples([path, other]) as files:
            for rows in files[0].chunks():
                files[0].labels(rows), files[0].sample_ids(rows)
                for name in files[0].datasets:
                    assert np.isfinite(files[0].logits(rows, name)).all()
            assert files[0].recipe_name in (None, "x") or isinstance(files[0].recipe_name, str)

    return attempt


class _Variable:
    def __init__(self, array: np.ndarray):
        self.shape, self.array = array.shape, array

    def assign(self, array: np.ndarray) -> None:
        assert array.shape == self.shape and np.isfinite(array).all()


@kind
def weights(folder: Path) -> Attempt:
    """Weights files: damaged, and with a checksum that's right over other numbers."""
    from hccr_tf.models.weights import load_weights, read_attributes, read_names, save_weights

    path, rng = folder / "w.safetensors", np.random.default_rng(0)
    arrays = {
        f"layer{i}/kernel": rng.standard_normal((3, i + 1)).astype(np.float32) for i in range(3)
    }
    variables: Any = {name: _Variable(array) for name, array in arrays.items()}
    save_weights(path, {"model": arrays}, {"epoch": 3})
    sound = path.read_bytes()

    def attempt(draw: random.Random) -> None:
        if draw.randrange(4):
            path.write_bytes(damage(sound, draw))
        else:
            name, odd = draw.choice(sorted(arrays)), draw.choice((np.nan, np.inf, -np.inf))
            kinds = [
                np.full_like(arrays[name], odd),
                arrays[name][:1],
                arrays[name].astype(np.int8),
            ]
            save_weights(path, {"model": {**arrays, name: draw.choice(kinds)}}, {"epoch": odd})
        load_weights(path, "model", variables)
        read_attributes(path), read_names(path, "model")

    return attempt


@kind
def keras2_weights(folder: Path) -> Attempt:
    """Weights files of Keras 2, which have no checksum."""
    import keras
    from keras2_files import write_keras2

    from hccr_tf.models.keras2_weights import load_keras2_weights

    layer = keras.layers.Dense(3, name="dense")
    model = keras.Sequential([keras.Input((4,)), layer])
    sound = [
        write_keras2(folder / f"{i}.h5", {"dense": layer}, bool(i)).read_bytes() for i in (0, 1)
    ]
    path = folder / "w.h5"

    def attempt(draw: random.Random) -> None:
        path.write_bytes(damage(draw.choice(sound), draw))
        load_keras2_weights(path, model)

    return attempt


@kind
def checkpoints(folder: Path) -> Attempt:
    """Checkpoints: of two the newer one is damaged, and the older one is gone on from."""
    import keras

    from hccr_tf.training.checkpoints import Checkpoints, Position

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    saved = Checkpoints(folder / "c")
    history = [{"epoch": 1, "loss": 0.5}]
    paths = [
        saved.save(model, Position(1, i), i, history, seconds=[1.0], spent=0.1) for i in (1, 2)
    ]
    sound = paths[1].read_bytes()

    def attempt(draw: random.Random) -> None:
        paths[1].write_bytes(damage(sound, draw))
        kept = saved.restore(model)
        assert kept is not None and kept["epoch"] == 1 and kept["history"] == history
        saved.restore_optimizer(model)
        if saved.newest == paths[0]:
            raise HccrError("passed over")

    return attempt


@kind
def stores(folder: Path) -> Attempt:
    """Stores of images and of strokes: damaged, and with checksums that are right."""
    from resealed import reseal

    from hccr_tf.data.opening import open_dataset
    from hccr_tf.data.store.prepare import prepare
    from hccr_tf.synthesis.dataset import make_stroke_store
    from hccr_tf.synthesis.strokes import load_strokes

    for i, name in enumerate("九七"):
        for j, image in enumerate(image_files()[i : i + 3]):
            _set(folder / "source" / "Train" / name / f"{j}.png", image)
    prepare([folder / "source"], folder / "store", progress=False)
    strokes = {c: lines for c, lines in load_strokes().items() if c in "九七"}
    make_stroke_store(strokes, folder / "strokes", source={"name": "x", "sha256": "0" * 64})
    sound = {
        kind: {path: path.read_bytes() for path in (folder / kind).iterdir()}
        for kind in ("store", "strokes")
    }

    def attempt(draw: random.Random) -> None:
        name = draw.choice(("store", "strokes"))
        _choose(sound[name], draw)
        if draw.randrange(3):
            with contextlib.suppress(Exception):  # of a manifest that's no longer one
                reseal(folder / name)
        dataset = open_dataset(folder / name)
        indices = dataset.indices("all")
        assert all(image.size and image.min() >= 0 for image in dataset.images(indices))
        dataset.labels_for(dataset.charset, indices), dataset.sample_ids(indices), dataset.summary()

    return attempt


@kind
def reports(folder: Path) -> Attempt:
    """Results of `hccr reproduce` as `hccr report` and the notebooks read them."""
    from hccr_tf.papers.report import read_results, write_report

    about = {
        "experiment": "kriuk_table1",
        "description": "a table",
        **{"scale": "smoke", "data": "store", "data_hash": "0" * 64, "split": "test"},
        "tables": ["kriuk_table1_ours.csv"],
    }
    results = folder / "results" / "kriuk_table1"
    files = {
        results / "about.json": json.dumps(about).encode(),
        results / "kriuk_table1_ours.csv": "run,accuracy\n九,99.1\nb,98.0\n".encode(),
        results / "cells.csv": b"cell,state,command\na,finished,hccr train\n",
    }
    (folder / "secret.csv").write_text("secret,of\nsomebody,else\n")

    def attempt(draw: random.Random) -> None:
        _choose(files, draw)
        write_report(folder / "results", folder / "report.html")
        assert "somebody" not in (folder / "report.html").read_text("utf-8")
        read_results("kriuk_table1", [folder / "results"])

    return attempt


@kind
def requests(folder: Path) -> Attempt:
    """Requests to the server: KServe's in JSON and binary, /v1/predict's images and forms."""
    from fastapi.testclient import TestClient

    from hccr_tf import Recognizer
    from hccr_tf.serving.app import create_app
    from hccr_tf.serving.limits import Limits

    client = TestClient(
        create_app(Recognizer(tta=False), "recogniser", b"", Limits(max_megapixels=1))
    )
    image = image_files()[0]
    pixels = written("七")[::2, ::2, None]
    tensor: dict[str, Any] = {"name": "image", "shape": [1], "datatype": "BYTES"}
    in_json = {
        "inputs": [{**tensor, "data": [base64.b64encode(image).decode()]}],
        "parameters": {"top_k": 3},
    }
    arrays = {
        **tensor,
        "shape": [1, *pixels.shape],
        "datatype": "UINT8",
        "data": pixels.ravel().tolist(),
    }
    texts = [json.dumps(in_json).encode(), json.dumps({"inputs": [arrays]}).encode()]
    head = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": 4 + len(image)}}]}
    ).encode()
    binary = struct.pack("<I", len(image)) + image

    def attempt(draw: random.Random) -> None:
        kind, headers = draw.randrange(4), {}
        url = "/v2/models/recogniser/infer"
        if kind == 0:
            body = damage(draw.choice(texts), draw)
        elif kind == 1:
            body = damage_json(draw.choice(texts), draw)
        elif kind == 2:
            length = draw.choice((len(head), len(head), len(head), -1, 0, 10**9))
            headers = {"inference-header-content-length": str(length)}
            body = damage(head + binary, draw)
        else:
            url, body = "/v1/predict", damage(image, draw)
        answer = client.post(url, content=body, headers=headers)
        assert answer.status_code < 500, answer.text
        answer.json()
        if answer.status_code != 200:
            raise HccrError(answer.text)

    return attempt
