"""The server's answers, in the test's process: every kind of request, and what is refused."""

import asyncio
import copy
import re
import threading

import httpx2
import numpy as np
import photographs as made
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from hccr_tf import HccrError
from hccr_tf.cli.main import main
from hccr_tf.serving.app import create_app
from hccr_tf.serving.limits import Limits
from hccr_tf.serving.server import read_page


@pytest.fixture
def serve(recognizer):
    """A function that returns a client of a server with some limits."""

    def make(reader=recognizer, **limits) -> TestClient:
        app = create_app(reader, "recogniser", b"<title>a page</title>", Limits(**limits))
        return TestClient(app, raise_server_exceptions=False)

    return make


class Gate:
    """A recogniser that waits for `opened`, and notes how many images each call brings."""

    def __init__(self, recognizer):
        self.recognizer = copy.copy(recognizer)
        self.recognizer.predict_each = self.predict_each
        self.opened, self.calls, self.read = threading.Event(), [], recognizer.predict_each

    def predict_each(self, images, *arguments, **options):
        self.calls.append(len(images))
        assert self.opened.wait(30)
        return self.read(images, *arguments, **options)


@pytest.fixture
def gate(recognizer):
    return Gate(recognizer)


async def send_all(app, images, gate, refused: int) -> list[httpx2.Response]:
    """Posts an image and, once it's being read, others; opens the gate when some are refused."""
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        asyncio.timeout(60),
        httpx2.AsyncClient(transport=transport, base_url="http://server", timeout=60) as client,
    ):
        tasks = []
        for image in images:
            tasks.append(asyncio.create_task(client.post("/v1/predict", content=image)))
            while not gate.calls:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        while sum(task.done() for task in tasks) < refused:
            await asyncio.sleep(0.01)
        gate.opened.set()
        return await asyncio.gather(*tasks)


def test_one_image_and_many_are_read_as_by_the_recogniser(serve, images, expected, assert_same):
    server = serve()
    one = server.post("/v1/predict", content=images[5])
    assert one.status_code == 200 and list(one.json()) == ["results"]
    assert_same(one.json()["results"][0], expected[5])
    form = [("image", (f"{i}.png", image)) for i, image in enumerate(images)]
    many = server.post("/v1/predict", files=form).json()["results"]
    for result, recognition in zip(many, expected, strict=True):
        assert_same(result, recognition)


def test_options(serve, recognizer, images, assert_same):
    server = serve()
    probabilities = set()
    for level in (1, 2, None):
        query = {"top_k": 2} | ({"level": level} if level else {})
        answer = server.post("/v1/predict", params=query, content=images[9]).json()
        assert_same(answer["results"][0], recognizer.at_level(level).predict(images[9], 2)[0])
        probabilities.add(answer["results"][0]["probability"])
    assert len(probabilities) == 2  # the run knows GB2312, all of it
    line = made.encoded(np.concatenate([made.on_paper("十", 20)] * 3, axis=1))
    refused = server.post("/v1/predict", content=line)
    assert refused.status_code == 422 and "line of about 3" in refused.json()["error"]
    assert server.post("/v1/predict?single=false", content=line).status_code == 200


@pytest.mark.parametrize(
    ("query", "message"),
    [("top_k=0", "query.top_k: "), ("level=3", "query.level: "), ("single=x", "query.single: ")],
)
def test_wrong_options_are_named(query, message, serve, images):
    answer = serve().post(f"/v1/predict?{query}", content=images[0])
    assert answer.status_code == 400 and answer.json()["error"].startswith(message)


def test_images_that_cannot_be_read_cost_no_other_its_answer(serve, images, expected, assert_same):
    server = serve()
    broken = server.post("/v1/predict", content=images[0][:60])
    assert broken.status_code == 422
    assert broken.json()["error"] == broken.json()["results"][0]["error"]
    assert "damaged or cut off" in broken.json()["error"]
    form = [("a", ("a.png", images[0])), ("b", ("b.png", b"text")), ("a", ("c.png", images[2]))]
    mixed = server.post("/v1/predict", files=form)
    first, error, last = mixed.json()["results"]
    assert mixed.status_code == 200 and error == {"error": "no image that can be decoded"}
    assert_same(first, expected[0])
    assert_same(last, expected[2])


def test_limits(serve, images):
    server = serve(max_megabytes=0.1, max_megapixels=1, max_images=2)
    form = [("image", ("1.png", image)) for image in images[:3]]
    large = made.encoded(np.full((1001, 1001), 255, np.uint8))
    for body, status, message in (
        ({"content": bytes(100_001)}, 413, "more than 0.1 megabytes"),
        ({"files": [("image", ("1.png", bytes(100_001)))]}, 413, "more than 0.1 megabytes"),
        ({"content": large}, 422, "more than 1 million pixels"),
        ({"files": form}, 400, "Too many files"),
        ({"content": b""}, 400, "There is no image"),
        ({"data": {"image": "text"}, "files": []}, 422, "no image that can be decoded"),
    ):
        answer = server.post("/v1/predict", **body)
        assert answer.status_code == status, answer.text
        assert message in answer.json()["error"]
    assert server.post("/v1/predict", files=form[:2]).status_code == 200
    assert server.post("/nothing").json() == {"error": "Not Found"}
    assert main(["serve", "--max-images", "0"]) == 2


def test_overload_is_refused_and_what_waits_is_read_together(serve, gate, images, expected):
    app = serve(gate.recognizer, max_waiting=4).app
    answers = asyncio.run(send_all(app, images[:10], gate, refused=6))
    assert [answer.status_code for answer in answers] == 4 * [200] + 6 * [429]
    assert all(answer.headers["Retry-After"] == "1" for answer in answers[4:])
    read = [answer.json()["results"][0]["character"] for answer in answers[:4]]
    assert read == [recognition.character for recognition in expected[:4]]
    assert gate.calls == [1, 3]
    # Once they're answered there is room again.
    again = asyncio.run(send_all(app, images[:4], gate, refused=0))
    assert [answer.status_code for answer in again] == 4 * [200]


def test_who_waits_too_long_is_told_and_not_read(serve, gate, images):
    app = serve(gate.recognizer, timeout=2).app
    answers = asyncio.run(send_all(app, images[:3], gate, refused=3))
    assert [answer.status_code for answer in answers] == 3 * [503]
    assert "within 2 seconds" in answers[0].json()["error"]
    assert gate.calls == [1]


def test_a_bug_costs_no_other_its_answer_and_tells_nothing(serve, gate, images):
    read = gate.read

    def fail_on_one(batch, *arguments, **options):
        if images[2] in batch:
            raise RuntimeError("in /home/secret")
        return read(batch, *arguments, **options)

    gate.read = fail_on_one
    app = serve(gate.recognizer).app
    answers = asyncio.run(send_all(app, images[:4], gate, refused=0))
    assert gate.calls == [1, 3, 1, 1, 1]
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert answers[2].json() == {"error": "The server failed; its log says where."}


def test_metrics(serve, images):
    server = serve()
    server.post("/v1/predict", content=images[0])
    server.post("/v1/predict", content=b"text")
    families = text_string_to_metric_families(server.get("/metrics").text)
    samples = {(s.name, s.labels.get("status")): s.value for f in families for s in f.samples}
    assert samples["hccr_request_seconds_count", "200"] == 1
    assert samples["hccr_request_seconds_count", "422"] == 1
    assert samples["hccr_batch_images_sum", None] == 2
    assert samples["hccr_waiting_requests", None] == 0
    assert samples["process_resident_memory_bytes", None] > 1e6


def test_the_page_is_the_exported_one_or_else_plain(monkeypatch):
    assert len(read_page(None)) > 1e6

    def refuse(*arguments):
        raise HccrError("too large")

    monkeypatch.setattr("hccr_tf.serving.server.export_page", refuse)
    assert b"fetch('v1/predict'" in read_page(None)


def test_page_and_interface(serve):
    server = serve()
    page = server.get("/")
    assert page.headers["content-type"].startswith("text/html") and "a page" in page.text
    interface = server.get("/openapi.json").json()
    body = interface["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "image/*"}
    references = set(re.findall(r"#/components/schemas/(\w+)", str(interface)))
    assert {"Tensor", "Recognition", "Failure"} <= references
    assert references <= interface["components"]["schemas"].keys()
