"""The Open Inference Protocol as its text has it; Triton's own client is in tests/e2e."""

import base64

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from hccr_tf.serving.app import create_app
from hccr_tf.serving.limits import Limits

INFER = "/v2/models/recogniser/infer"


@pytest.fixture(scope="module")
def server(recognizer):
    app = create_app(recognizer, "recogniser", b"", Limits(max_images=15))
    return TestClient(app, raise_server_exceptions=False)


def tensor(images, **changes) -> dict:
    """An input of image files, or with changes."""
    data = [base64.b64encode(image).decode() for image in images]
    return {"name": "image", "shape": [len(images)], "datatype": "BYTES", "data": data} | changes


def test_health_and_metadata(server):
    for path in ("health/live", "health/ready", "models/recogniser/ready"):
        assert server.get(f"/v2/{path}").status_code == 200
    about = server.get("/v2").json()
    assert about.keys() == {"name", "version", "extensions"} and about["name"] == "hccr_tf"
    model = server.get("/v2/models/recogniser").json()
    assert model["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert [output["name"] for output in model["outputs"]] == ["character", "probability"]
    for path in ("models/other", "models/other/ready"):
        assert server.get(f"/v2/{path}").status_code == 404


def test_files_are_read_as_by_the_recogniser(server, images, expected):
    asked = {"id": "42", "parameters": {"top_k": 3}, "inputs": [tensor(images)]}
    answer = server.post(INFER, json=asked).json()
    assert answer["id"] == "42" and answer["model_name"] == "recogniser"
    characters, probabilities = answer["outputs"]
    assert characters["datatype"] == "BYTES" and probabilities["datatype"] == "FP32"
    assert characters["shape"] == probabilities["shape"] == [15, 3]
    assert characters["data"][::3] == [recognition.character for recognition in expected]
    assert characters["data"][1] == expected[0].alternatives[0][0]
    first = [recognition.probability for recognition in expected]
    assert probabilities["data"][::3] == pytest.approx(first, abs=1e-5)
    # One output alone.
    only = server.post(INFER, json=asked | {"outputs": [{"name": "probability"}]}).json()
    assert only["outputs"] == [probabilities]


def test_pixels_are_read_too(server, recognizer, images, expected):
    """Nested or flat, of any size: as the network takes them, for one."""
    decoded = [cv2.imdecode(np.frombuffer(i, np.uint8), cv2.IMREAD_GRAYSCALE) for i in images]
    prepared = recognizer.predictor.preprocessing.apply_many(decoded[:5])
    for data in (prepared.tolist(), prepared.ravel().tolist()):
        image = tensor([], shape=list(prepared.shape), datatype="UINT8", data=data)
        answer = server.post(INFER, json={"parameters": {"top_k": 1}, "inputs": [image]}).json()
        read = answer["outputs"][0]["data"]
        assert read == [recognition.character for recognition in expected[:5]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "pixels"}, "its input is image"),
        ({"datatype": "FP32"}, "its input is image"),
        ({"shape": [2]}, "1 elements, not [2]"),
        ({"shape": "x"}, "inputs.0.shape: "),
        ({"shape": [0], "data": []}, "1 to 15 images are taken"),
        ({"shape": [16], "data": 16 * ["AA=="]}, "1 to 15 images are taken"),
        ({"data": ["not base64"]}, "isn't well formed"),
        ({"data": [3]}, "isn't well formed"),
        ({"data": ["AA=="]}, "image 0: no image"),
        ({"datatype": "UINT8", "shape": [1, 2, 2, 1], "data": [1, 2, 3]}, "isn't well formed"),
        ({"datatype": "UINT8", "shape": [1, 1, 2, 1], "data": [1, 256]}, "isn't well formed"),
        ({"datatype": "UINT8", "shape": [1, 1, 1, 2], "data": [1, 2]}, "An image is uint8"),
    ],
)
def test_what_is_wrong_is_named(changes, message, server, images):
    answer = server.post(INFER, json={"inputs": [tensor(images[:1], **changes)]})
    assert answer.status_code == 400 and message in answer.json()["error"]


def test_wrong_requests_are_named(server, images):
    inputs = [tensor(images[:1])]
    for asked, message in (
        ({}, "inputs: Field required"),
        ({"inputs": inputs, "parameters": {"top_k": 0}}, "top_k: "),
        ({"inputs": inputs, "outputs": [{"name": "logits"}]}, "outputs are"),
        ({"inputs": inputs + inputs}, "isn't well formed"),
    ):
        answer = server.post(INFER, json=asked)
        assert answer.status_code == 400 and message in answer.json()["error"]
    assert server.post(INFER, content=b"{").status_code == 400
    assert server.post("/v2/models/other/infer", json={"inputs": inputs}).status_code == 404
