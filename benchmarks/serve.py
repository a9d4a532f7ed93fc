"""`hccr serve` under load: is every request answered rightly, how fast, and in what memory?

  OMP_NUM_THREADS=1 .venv/bin/python benchmarks/serve.py

Clients, each with a connection of its own to 127.0.0.1, post images as fast as they're answered, in
a random order: 80 % drawn numerals, whose answers must be those of `Recognizer`; 10 % broken files
(422); 5 % of more than the 16 megabytes (413); 5 % small files that claim 64 million pixels (422).
First within the default limits, then at a server that lets only 8 requests wait: with 8 clients,
with all of them (429 for who comes too much, and comes again when Retry-After has passed), and with
8 again. Writes results/serve.csv.
"""

import argparse
import http.client
import io
import itertools
import json
import os
import platform
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from hccr_tf import Recognizer
from hccr_tf.synthesis.deform import centre_lines, draw
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.synthesis.style import HandwritingStyle
from hccr_tf.utils.files import write_csv

RESULTS = Path(__file__).parent / "results"  # without common.py, which needs Keras
FEW = 8  # clients, and requests that wait, where there's to be overload
PATIENCE = 600  # seconds for a phase


def main() -> None:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("--requests", type=int, default=2000, help="of each phase with all clients")
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    count, clients = options.requests, options.clients
    kinds = request_kinds()
    rows = []
    with server() as (process, port):
        rows.append(phase("within the limits", port, process, kinds, count, clients))
    with server("--max-waiting", str(FEW)) as (process, port):
        rows.append(phase("before overload", port, process, kinds, count // 5, FEW))
        rows.append(phase("overload", port, process, kinds, count, clients))
        rows.append(phase("after overload", port, process, kinds, count // 5, FEW))
    table = pd.DataFrame(rows)
    table["hardware"] = f"{platform.machine()}, {os.cpu_count()} cores, beside other work"
    table["command"] = "OMP_NUM_THREADS=1 python benchmarks/serve.py"
    write_csv(RESULTS / "serve.csv", table)
    print(table.iloc[:, :-2].T.to_string(header=False))
    if table[["wrong", "lost"]].to_numpy().any():
        raise SystemExit("error: requests were answered wrongly, or not at all")


def request_kinds() -> list[tuple[float, list[tuple[bytes, int, str]]]]:
    """Returns shares of requests, each with its bodies, their status, and their character."""
    characters = [centre_lines(lines) for lines in load_strokes().values()] * 4
    counts = np.array([len(lines) for lines in characters])
    seeds = [(7, i) for i in range(len(characters))]
    images = draw(np.concatenate(characters), counts, seeds, HandwritingStyle())
    files = [
        encoded(Image.fromarray(image), ("PNG", "BMP")[i % 2]) for i, image in enumerate(images)
    ]
    read = Recognizer().predict(files)
    valid = [(file, 200, r.character) for file, r in zip(files, read, strict=True)]
    broken = [(file[: len(file) // 3], 422, "") for file in files[::2]] + [(b"text", 422, "")]
    many_pixels = encoded(Image.new("1", (8000, 8000), 1), "PNG")
    return [
        (0.80, valid),
        (0.10, broken),
        (0.05, [(bytes(17_000_000), 413, "")]),
        (0.05, [(many_pixels, 422, "")]),
    ]


def encoded(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@contextmanager
def server(*flags: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """A server in a process of its own: it and its port."""
    command = [sys.executable, "-m", "hccr_tf", "serve", "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = next(m[1] for line in process.stdout if (m := re.search(r"http://.*:(\d+)", line)))
        yield process, int(port)
    finally:
        process.terminate()
        process.wait()


def phase(name: str, port: int, process, kinds, count: int, clients: int) -> dict:
    """Sends requests, and returns a row of how they were answered."""
    draw_kind = random.Random(name)
    shares = [share for share, _ in kinds]
    requests = iter(
        [draw_kind.choice(bodies) for _, bodies in draw_kind.choices(kinds, shares, k=count)]
    )
    lock, statuses, seconds = threading.Lock(), Counter[int](), []
    wrong, halfway, stop = [], {}, time.monotonic() + PATIENCE

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        while time.monotonic() < stop:
            with lock:
                request = next(requests, None)
            if request is None:
                break
            body, status, character = request
            began = time.perf_counter()
            connection.request("POST", "/v1/predict?top_k=1", body)
            response = connection.getresponse()
            answer, took = json.loads(response.read()), time.perf_counter() - began
            with lock:
                statuses[response.status] += 1
                if statuses.total() == count // 2:
                    halfway.update(usage(process.pid))
                if response.status == 200:
                    seconds.append(took)
            if response.status == 429:
                as_expected = clients > FEW
                time.sleep(float(response.headers["Retry-After"]))
            elif response.status == 200 == status:
                as_expected = answer["results"][0]["character"] == character
            else:
                as_expected = response.status == status and bool(answer["error"])
            if not as_expected:
                wrong.append((response.status, answer))
        connection.close()

    before, began = usage(process.pid), time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    for status, answer in itertools.islice(wrong, 5):
        print("wrong:", status, answer)
    after = usage(process.pid)
    p50, p99 = np.percentile(seconds, [50, 99])
    return {
        "phase": name,
        "clients": clients,
        "requests": count,
        **{f"status_{status}": statuses[status] for status in (200, 413, 422, 429)},
        "wrong": len(wrong),
        "lost": count - statuses.total(),
        "seconds": round(took, 1),
        "processor_seconds": round(after["seconds"] - before["seconds"], 1),
        "p50_ms_of_200": round(1000 * p50),
        "p99_ms_of_200": round(1000 * p99),
        "megabytes_before": before["VmRSS"],
        "megabytes_halfway": halfway.get("VmRSS"),
        "megabytes_after": after["VmRSS"],
        "megabytes_peak": after["VmHWM"],
    }


def usage(process: int) -> dict[str, float]:
    """Returns a process's resident megabytes, now and at most, and its processor seconds."""
    status = Path(f"/proc/{process}/status").read_text()
    kilobytes = {n: int(re.search(rf"{n}:\s+(\d+)", status)[1]) for n in ("VmRSS", "VmHWM")}
    ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    seconds = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return {**{n: round(value / 1024) for n, value in kilobytes.items()}, "seconds": seconds}


if __name__ == "__main__":
    main()
