"""Feeds damaged .gnt files to the reader and accounts for every byte of each.

    .venv/bin/python benchmarks/fuzz_gnt.py --inputs 100000

A small file is cut at every length, gets every other value at every byte, and is mutated at
random: bytes changed, stretches removed, doubled, exchanged or replaced, header fields set to
extremes, several at once. Each input is read by itself, timed; then all of them together go
through `hccr data prepare`, and the store with its quarantine list must account for each file.
Prints a verdict last; exits with 1 if anything is lost, raised or hangs (5 s an input).
"""

import argparse
import collections
import csv
import io
import signal
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import hccr_tf
from hccr_tf.data.sources.gnt import HEADER, GntRecord, read_gnt

EXTREMES = (0, 1, 9, 10, 11, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def small_file() -> bytes:
    """Four records of a few pixels: a hanzi, a symbol, one tag that looks like a size, a hanzi."""
    rng = np.random.default_rng(1)
    records = []
    for tag, width, height in (
        (b"\xb0\xa1", 4, 3),
        (b"A\0", 2, 5),
        (b"\x22\0", 3, 4),
        (b"\xd7\xf9", 5, 2),
    ):
        pixels = rng.integers(0, 256, width * height, dtype=np.uint8).tobytes()
        records.append(HEADER.pack(HEADER.size + len(pixels), tag, width, height) + pixels)
    return b"".join(records)


def inputs(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields names and contents: all cuts, all byte values, then random mutations."""
    data = small_file()
    made = 0
    for length in range(len(data)):
        yield f"cut-{length}", data[:length]
        made += 1
    for place in range(len(data)):
        for value in range(256):
            if value != data[place]:
                yield f"byte-{place}-{value}", data[:place] + bytes([value]) + data[place + 1 :]
                made += 1
    rng = np.random.default_rng(seed)
    while made < count:
        mutated = bytearray(data * int(rng.integers(1, 4)))
        for _ in range(int(rng.integers(1, 6))):
            mutate(mutated, rng)
        yield f"random-{made}", bytes(mutated)
        made += 1


def mutate(data: bytearray, rng: np.random.Generator) -> None:
    kind = int(rng.integers(7))
    begin, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    if kind == 0 and data:
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[begin : min(end, begin + 30)]
    elif kind == 2:
        data[begin:begin] = data[begin : min(end, begin + 60)]
    elif kind == 3:
        data[begin:begin] = rng.integers(0, 256, int(rng.integers(1, 40)), dtype=np.uint8).tobytes()
    elif kind == 4 and len(data) >= 4:
        place = int(rng.integers(len(data) - 3))
        data[place : place + 4] = struct.pack("<I", EXTREMES[int(rng.integers(len(EXTREMES)))])
    elif kind == 5:
        data[begin : min(end, begin + 50)] = bytes(min(end, begin + 50) - begin)
    elif kind == 6:
        del data[end:]


def account(name: str, data: bytes) -> tuple[int, int, int]:
    """Reads one input; returns records, bytes kept, bytes quarantined.

    Raises:
        AssertionError: Its bytes are not accounted for once each and in order.
    """
    position = kept = records = 0
    for entry in read_gnt(io.BytesIO(data), name, len(data)):
        assert entry.offset == position, f"{name}: a gap or an overlap at {position}"
        if isinstance(entry, GntRecord):
            size = HEADER.size + entry.image.size
            kept += size
            records += 1
        else:
            size = entry.num_bytes
        position += size
    assert position == len(data), f"{name}: {len(data) - position} bytes unaccounted for"
    return records, kept, position - kept


def check_store(sizes: dict[str, int], store: hccr_tf.Store) -> None:
    """Compares a store and its quarantine list with the files that it was made of."""
    found: collections.Counter[str] = collections.Counter()
    areas = store.heights.astype(np.int64) * store.widths
    for i, area in enumerate(areas.tolist()):
        found[store.sample_id(i).rsplit("#", 1)[0]] += HEADER.size + area
    listed = set()
    with open(store.path / "quarantine.csv", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            found[row["source"]] += int(row["num_bytes"])
            listed.add(row["source"])
    wrong = [name for name, size in sizes.items() if found[name] != size]
    assert not wrong, f"{len(wrong)} files unaccounted for, such as {wrong[:3]}"
    empty = [name for name, size in sizes.items() if size == 0 and name not in listed]
    assert not empty, f"empty files not listed: {empty[:3]}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    def hang(*_: object) -> None:
        raise TimeoutError("an input took more than 5 seconds")

    signal.signal(signal.SIGALRM, hang)
    kinds: collections.Counter[str] = collections.Counter()
    totals = np.zeros(3, np.int64)
    slowest = 0.0
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        archive_path = Path(folder) / "fuzz.zip"
        with zipfile.ZipFile(archive_path, "w") as archive:
            for name, data in inputs(options.inputs, options.seed):
                begin = time.perf_counter()
                signal.alarm(5)
                totals += account(name, data)
                signal.alarm(0)
                slowest = max(slowest, time.perf_counter() - begin)
                kinds[name.split("-")[0]] += 1
                archive.writestr(f"{name}.gnt", data)
                sizes[f"fuzz.zip/{name}.gnt"] = len(data)
        store = hccr_tf.prepare([archive_path], Path(folder) / "store", split="shuffle")
        check_store(sizes, store)
        assert len(store) == totals[0], f"{len(store)} samples instead of {totals[0]}"
    listed = ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())
    print(f"{kinds.total():,} inputs ({listed}), seed {options.seed}, slowest {slowest:.3f} s")
    print(f"{totals[0]:,} records, {totals[1]:,} bytes kept, {totals[2]:,} quarantined")
    print("PASSED: every byte of every input is kept or quarantined, alone and through the store")
    return 0


if __name__ == "__main__":
    sys.exit(main())
