"""Runs as files for other engines: they read what the run reads, without Keras."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import onnx
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from disk import leftovers
from onnx.numpy_helper import to_array
from photographs import on_paper
from untrained import NUMERALS, untrained_run

from hccr_tf import HccrError, Recognizer, export_run, list_models
from hccr_tf.cli.main import main
from hccr_tf.export import export
from hccr_tf.inference.onnx_predictor import METADATA, OnnxPredictor
from hccr_tf.inference.predictor import Predictor
from hccr_tf.models.weights import read_checksum
from hccr_tf.pretrained import EXPORTED, FOLDER

pytestmark = pytest.mark.integration
SMALL = {
    "alexnet": {"width": 8, "units": 16},
    "brick_net": {"num_bricks": 2, "width": 16},
    "compact_net": {"width": 8},
    "convnet_ir": {"width": 8, "steps": 2},
    "refined": {"backbone": "compact_net", "width": 8, "steps": 2, "reset_after": True},
}
# The others take as long as tests of processes.
QUICK = ("compact_net",)
# One of keras.applications stands for all of them that no paper here has.
NETWORKS = [*list_models(), "applications:MobileNetV3Small"]
# Converting their hundreds of layers takes minutes; benchmarks/exports.py has their other formats.
LARGE = ("efficientnet_v2s", "inception_v3_gru")


def prepared(predictor, count=5):
    """Prepared images, as many as are asked for."""
    images = [on_paper(character) for character in NUMERALS[:count]]
    return predictor.preprocessing.apply_many(images)


def onnx_logits(path, images):
    predictor = OnnxPredictor(path)
    return predictor.logits(images), predictor.charset.text


def litert_logits(path, images):
    logits = Interpreter(str(path)).get_signature_runner("serving_default")(image=images)["logits"]
    with zipfile.ZipFile(path) as archive:
        return logits, json.loads(archive.read("hccr_tf.json"))["characters"]


def saved_model_logits(path, images):
    signature = tf.saved_model.load(path).signatures["serving_default"]
    facts = json.loads((path / "assets.extra" / "hccr_tf.json").read_text("utf-8"))
    return signature(image=tf.constant(images))["logits"].numpy(), facts["characters"]


READ = {"onnx": onnx_logits, "litert": litert_logits, "saved_model": saved_model_logits}
NAMES = {"onnx": "run.onnx", "litert": "run.tflite", "saved_model": "run"}


@pytest.fixture(scope="module")
def compact(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("compact") / "run", "compact_net", width=8)


@pytest.mark.parametrize(
    "network", [n if n in QUICK else pytest.param(n, marks=pytest.mark.e2e) for n in NETWORKS]
)
def test_every_format_gives_the_logits_of_every_network(network, tmp_path):
    run = untrained_run(tmp_path / "untrained", network, **SMALL.get(network, {}))
    predictor = Predictor(run)
    images = prepared(predictor)
    logits = predictor.logits(images)
    assert logits.std(axis=0).max() > 1e-3 * logits.std()  # or equal logits would say little
    for format, name in list(NAMES.items())[: 1 if network in LARGE else None]:
        done = export_run(run, tmp_path / name)
        assert done.num_images == 60 and done.equal_answers == 1
        for size in (1, 5):
            found, characters = READ[format](done.path, images[:size])
            assert found.dtype == np.float32 and characters == NUMERALS
            assert abs(found - logits[:size]).max() < 1e-4 * logits.std(), format


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_small_weights_make_small_files_that_read_the_same(kind, compact, tmp_path):
    predictor = Predictor(compact)
    images = prepared(predictor)
    logits, share = predictor.logits(images), {"float16": 0.6, "int8": 0.4}[kind]
    bound = {"float16": 0.01, "int8": 0.2}[kind] * logits.std()
    whole = export_run(compact, tmp_path / "run.onnx")
    for file, read in (("small.onnx", onnx_logits), ("small.tflite", litert_logits)):
        small = export_run(compact, tmp_path / file, quantize=kind)
        assert small.num_bytes < share * whole.num_bytes and small.equal_answers > 0.9
        found, _ = read(small.path, images)
        assert 0 < np.sqrt(((found - logits) ** 2).mean()) < bound


def test_eight_bits_fit_processors_that_add_in_sixteen(compact, tmp_path):
    """Two products of a kernel's and an image's value are summed in sixteen bits without VNNI."""
    export_run(compact, tmp_path / "run.onnx", quantize="int8")
    graph = onnx.load(tmp_path / "run.onnx").graph
    kernels = [a for a in map(to_array, graph.initializer) if a.dtype == np.int8 and a.ndim == 4]
    assert len(kernels) == 8 and max(abs(k.astype(int)).max() for k in kernels) <= 64


def test_where_integers_read_otherwise_floats_are_multiplied(compact, tmp_path, monkeypatch):
    monkeypatch.setitem(export._BOUNDS, "int8", 0.02)
    done = export_run(compact, tmp_path / "run.onnx", quantize="int8")
    assert done.num_bytes < 0.4 * export_run(compact, tmp_path / "floats.onnx").num_bytes
    kinds = {node.op_type for node in onnx.load(done.path).graph.node}
    assert "Cast" in kinds and not kinds & {"QuantizeLinear", "DequantizeLinear"}
    images = prepared(predictor := Predictor(compact))
    found, logits = onnx_logits(done.path, images)[0], predictor.logits(images)
    assert 0 < np.sqrt(((found - logits) ** 2).mean()) < 0.02 * logits.std()


def test_recognizer_and_command_read_a_file_as_the_run(compact_run, numerals, tmp_path, capsys):
    out = tmp_path / "new" / "compact.onnx"
    command = ["export", str(compact_run), "--out", str(out), "--quantize", "float16"]
    assert main([*command, "--data", str(numerals)]) == 0
    assert f"Of 64 images of {numerals} 100 % read as with Keras" in capsys.readouterr().out
    images = [on_paper(character) for character in "一三五七九百千万"]
    for one, other in zip(
        Recognizer(compact_run).predict(images), Recognizer(out).predict(images), strict=True
    ):
        assert one.character == other.character
        assert one.probability == pytest.approx(other.probability, abs=0.01)


def test_what_reads_otherwise_is_not_left(compact, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(export._BOUNDS, None, 1e-12)
    out = tmp_path / "run.onnx"
    assert main(["export", str(compact), "--out", str(out)]) == 2
    assert "more than 1e-12 of how much they vary" in capsys.readouterr().err
    assert not out.exists() and not leftovers(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "run.pb"], "run.pb: no format's name ends so; .onnx, .tflite do"),
        (["--out", "run.onnx", "--format", "coreml"], "onnx, litert, saved_model, not 'coreml'"),
        (["--out", "run.onnx", "--quantize", "int4"], "float16 or int8, not 'int4'"),
        (["--out", "run", "--quantize", "int8"], "has its weights as they are"),
        (["--out", "."], "is a folder with something in it"),
    ],
)
def test_what_cannot_be_exported_is_said(arguments, message, compact, monkeypatch, capsys):
    monkeypatch.chdir(compact)
    assert main(["export", "recogniser", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.e2e
def test_a_run_of_jax_is_exported(numerals, tmp_path):
    """It's trained there; the command converts it with TensorFlow, and a program is told to."""
    pytest.importorskip("jax")
    run, out = tmp_path / "run", tmp_path / "run.onnx"
    program = (
        "import hccr_tf\n"
        "small = {'image_size': 32, 'model_args': {'width': 8}, 'epochs': 1}\n"
        "recipe = hccr_tf.get_recipe('recogniser').override(small)\n"
        f"hccr_tf.train(recipe, {str(numerals)!r}, {str(run)!r})\n"
        f"hccr_tf.export_run({str(run)!r}, {str(out)!r})\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}

    def python(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    told = python("-c", program)
    assert told.returncode and "set KERAS_BACKEND=tensorflow before" in told.stderr, told.stderr
    assert json.loads((run / "environment.json").read_text())["backend"] == "jax"
    done = python("-m", "hccr_tf", "export", str(run), "--out", str(out))
    assert done.returncode == 0 and "read as with Keras" in done.stdout, done.stderr
    predictor = Predictor(run)
    images = prepared(predictor)
    np.testing.assert_allclose(
        OnnxPredictor(out).logits(images), predictor.logits(images), atol=1e-3
    )


def test_the_packages_file_is_of_its_weights():
    file = FOLDER / EXPORTED
    assert file.stat().st_size < 6e6
    facts = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert json.loads(facts[METADATA])["weights_sha256"] == read_checksum(
        FOLDER / "prediction.safetensors"
    )


def test_what_is_no_exported_file_is_named(tmp_path):
    damaged, foreign = tmp_path / "damaged.onnx", tmp_path / "foreign.onnx"
    damaged.write_bytes(b"\x08\x01nothing")
    model = onnx.load(FOLDER / EXPORTED)
    del model.metadata_props[:]
    onnx.save(model, foreign)
    for file, fault in (
        (damaged, r"damaged\.onnx is damaged or of another kind .*hccr export"),
        (foreign, r"foreign\.onnx: its content is None, not an object; .*hccr export"),
    ):
        with pytest.raises(HccrError, match=fault):
            Recognizer(file)
    with pytest.raises(HccrError, match=r"no file .*absent\.onnx"):
        Recognizer(tmp_path / "absent.onnx")
