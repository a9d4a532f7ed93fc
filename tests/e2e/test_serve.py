"""`hccr serve` as a process: standard clients, and a stop that leaves nobody without an answer."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import photographs as made
import pytest
from threads import ONE_THREAD

from hccr_tf import Recognizer

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def images():
    return [made.encoded(made.on_paper(c, seed=3)) for c in "零一二三四五六七八九十百千万亿"]


@pytest.fixture
def start():
    """A function that starts a server and returns its process and port."""
    processes = []

    def start(*flags: str) -> tuple[subprocess.Popen, int]:
        command = [sys.executable, "-m", "hccr_tf", "serve", "--port", "0", *flags]
        environment = {**os.environ, **ONE_THREAD}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        processes.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if address := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                return process, int(address[1])
        raise AssertionError("the server ended before it listened")

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def count_requests(port: int) -> tuple[float, float]:
    """How many are under way, and how many answered, at one moment."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    names = "hccr_waiting_requests", "hccr_request_seconds_count"
    waiting, answered = (sum(float(x.split()[-1]) for x in lines if x.startswith(n)) for n in names)
    return waiting, answered


def test_tritons_client_reads_files_and_pixels(start, images):
    triton = pytest.importorskip("tritonclient.http")
    _, port = start()
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("recogniser")
    assert client.get_model_metadata("recogniser")["inputs"][0]["datatype"] == "BYTES"
    expected = [recognition.character for recognition in Recognizer().predict(images)]

    files = np.array(images, object)
    pixels = np.stack([np.resize(made.on_paper("五"), (200, 200))])[..., None]
    for array, kind, characters in ((files, "BYTES", expected), (pixels, "UINT8", None)):
        image = triton.InferInput("image", list(array.shape), kind)
        image.set_data_from_numpy(array)  # as binary data, its default
        answer = client.infer("recogniser", [image], request_id="7")
        assert answer.get_response()["id"] == "7"
        read = answer.as_numpy("character")
        assert read.shape == answer.as_numpy("probability").shape == (len(array), 5)
        assert characters is None or read[:, 0].tolist() == characters
    with pytest.raises(triton.InferenceServerException, match="top_k"):
        client.infer("recogniser", [image], parameters={"top_k": 0})
    client.close()


def test_waiting_requests_are_answered_before_it_stops(start, images):
    process, port = start("--max-batch", "1")
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(60)]
    for i, connection in enumerate(connections):
        connection.request("POST", "/v1/predict", images[i % len(images)])
    while sum(counts := count_requests(port)) < len(connections):
        pass
    process.send_signal(signal.SIGTERM)
    assert counts[0] > 0
    assert [connection.getresponse().status for connection in connections] == 60 * [200]
    assert process.wait(30) == -signal.SIGTERM
    for connection in connections:
        connection.close()
    with pytest.raises(urllib.error.URLError, match="refused"):
        count_requests(port)


def test_commands_of_the_docs(start, images, tmp_path):
    """Those of docs/apps.md about the server, with its port."""
    text = (ROOT / "docs" / "apps.md").read_text("utf-8").partition("\n## A server\n")[2]
    text = text.partition("\n## ")[0]
    _, port = start()
    (tmp_path / "photo.jpg").write_bytes(made.encoded(made.on_paper("五"), "JPEG"))
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text.replace("8000", str(port)), re.M | re.S)
    curls = [line for _, block in blocks for line in block.splitlines() if line.startswith("curl")]
    (program,) = [block for language, block in blocks if language == "python"]
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True)
    if shutil.which("curl"):
        one, many, metrics = [run(f"{line} --fail", shell=True).stdout for line in curls]
        assert [r["character"] for r in json.loads(one)["results"]] == ["五"]
        assert len(json.loads(one)["results"][0]["alternatives"]) == 1
        assert [r["character"] for r in json.loads(many)["results"]] == ["五", "五"]
        assert 'hccr_request_seconds_count{status="200"} 2.0' in metrics
    pytest.importorskip("tritonclient.http")
    assert run([sys.executable, "-c", program]).stdout.startswith("[['五'")


def test_serving_needs_no_framework():
    program = (
        "import sys\nfrom hccr_tf import Recognizer\nfrom hccr_tf.serving import server\n"
        "server.create_app(Recognizer(), 'r', server.read_page(None), server.Limits())\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "set()\n"
