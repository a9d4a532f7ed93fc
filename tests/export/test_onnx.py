"""Runs as ONNX files: they read what the run reads, without Keras."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from photographs import on_paper

from hccr_tf import HccrError, Recognizer, export_onnx
from hccr_tf.cli.main import main
from hccr_tf.inference.onnx_predictor import METADATA, OnnxPredictor
from hccr_tf.inference.predictor import Predictor
from hccr_tf.models.weights import read_checksum
from hccr_tf.pretrained import EXPORTED, FOLDER

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("run", ["brick_run", "refined_run", "compact_run"])
@pytest.mark.parametrize("quantize", [None, "float16", "int8"])
def test_a_file_gives_the_logits_of_its_run(run, quantize, request, tmp_path):
    workdir = request.getfixturevalue(run)
    done = export_onnx(workdir, tmp_path / "run.onnx", quantize=quantize)
    ours, exported = Predictor(workdir), OnnxPredictor(done.path)
    assert exported.charset.text == ours.charset.text
    assert exported.preprocessing == ours.preprocessing
    shape = (5, *ours.preprocessing.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    logits = ours.logits(images)
    bound = {None: 1e-3, "float16": 0.01, "int8": 0.1}[quantize] * logits.std()
    for size in (1, 5):
        assert abs(exported.logits(images[:size]) - logits[:size]).max() < bound
    assert done.equal_answers >= 0.95


def test_recognizer_and_command_read_a_file_as_the_run(compact_run, tmp_path, capsys):
    out = tmp_path / "new" / "compact.onnx"
    assert main(["export", str(compact_run), "--out", str(out)]) == 0
    assert "of 60 drawn images 100 % read as with Keras" in capsys.readouterr().out
    images = [on_paper(character) for character in "一三五七九百千万"]
    for one, other in zip(
        Recognizer(compact_run).predict(images), Recognizer(out).predict(images), strict=True
    ):
        assert one.character == other.character
        assert one.probability == pytest.approx(other.probability, abs=1e-4)


def test_the_packages_file_is_of_its_weights_and_needs_no_keras():
    file = FOLDER / EXPORTED
    assert file.stat().st_size < 6e6
    facts = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert json.loads(facts[METADATA])["weights_sha256"] == read_checksum(
        FOLDER / "prediction.safetensors"
    )
    check = (
        "import sys, numpy as np, hccr_tf; image = np.full((60, 60), 255, np.uint8); "
        "image[28:32, 5:55] = 0; print(hccr_tf.Recognizer().predict(image)[0].character, "
        "*{'keras', 'tensorflow', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["一"] and not said.stderr


def test_what_is_no_exported_file_is_named(tmp_path):
    damaged, foreign = tmp_path / "damaged.onnx", tmp_path / "foreign.onnx"
    damaged.write_bytes(b"\x08\x01nothing")
    model = onnx.load(FOLDER / EXPORTED)
    del model.metadata_props[:]
    onnx.save(model, foreign)
    for file in (damaged, foreign):
        with pytest.raises(HccrError, match=f"{file.name} is damaged, or not written by"):
            Recognizer(file)
    with pytest.raises(HccrError, match=r"no file .*absent\.onnx"):
        Recognizer(tmp_path / "absent.onnx")
    with pytest.raises(HccrError, match="float16 or int8, not 'int4'"):
        export_onnx("recogniser", tmp_path / "x.onnx", quantize="int4")
