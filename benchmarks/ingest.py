"""How fast and with how much memory `hccr data prepare` reads .gnt files.

Compared, in one run, on the same files and the same number of processes, with reading and
SHA-256-hashing their bytes. The files are perturbed copies of real ones, every image another.

    .venv/bin/python benchmarks/ingest.py --gnt hwdb100-gnt.zip --folder runs/ingest

Writes results/ingest.csv, a row a number of records and of processes. Takes twice the space of
the largest input: 5 GB a million records for it, and as much for the store.
"""

import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, arguments_of

import hccr_tf
from hccr_tf.data.sources.discovery import Discovery
from hccr_tf.data.sources.gnt import HEADER
from hccr_tf.data.sources.records import SampleBlock


def real_files(path: Path) -> list[bytes]:
    """The content of each .gnt file of a source, put together again of its sound records."""
    files: dict[str, list[bytes]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        discovery = Discovery(Path(scratch))
        discovery.add(path)
        for block in itertools.chain(*(chunk.records() for chunk in discovery.chunks)):
            if not isinstance(block, SampleBlock):
                continue
            for sample in block.samples():
                tag = sample.character.encode("gbk").ljust(2, b"\0")
                height, width = sample.image.shape
                head = HEADER.pack(HEADER.size + height * width, tag, width, height)
                files.setdefault(block.source, []).append(head + sample.image.tobytes())
    return [b"".join(records) for records in files.values()]


def write_input(folder: Path, base: list[bytes], num_records: int, per_file: int) -> int:
    """Writes perturbed copies of real records, `per_file` a file; returns the bytes."""
    data = np.frombuffer(b"".join(base), np.uint8)
    starts, position = [], 0
    while position < len(data):
        starts.append(position)
        position += int.from_bytes(data[position : position + 4].tobytes(), "little")
    starts = np.array([*starts, len(data)])
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    written = total = 0
    while written < num_records:
        count = min(per_file, num_records - written)
        chunks = []
        while count > 0:
            take = min(count, len(starts) - 1)
            piece = data[: starts[take]].copy()
            # Sixteen pixels of every image become random ones: no two are alike.
            places = starts[:take, None] + HEADER.size + np.arange(16)
            piece[places] = rng.integers(0, 256, places.shape, dtype=np.uint8)
            chunks.append(piece)
            count -= take
        path = folder / f"{written // per_file + 1:04d}-p.gnt"
        with open(path, "wb") as stream:
            for piece in chunks:
                stream.write(piece.data)
        total += path.stat().st_size
        written += per_file
    return total


def hash_file(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def time_hashing(paths: list[str], processes: int) -> float:
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(hash_file, paths[:processes]))  # Processes start before the clock does.
        begin = time.perf_counter()
        list(pool.map(hash_file, paths, chunksize=1))
        return time.perf_counter() - begin


class PeakMemory(threading.Thread):
    """Follows the largest resident size of a process and of its children."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid = pid
        self.peaks: dict[int, int] = {}
        self.running = True

    def run(self) -> None:
        """Looks again and again until `running` is false."""
        while self.running:
            for pid in [self.pid, *self._children()]:
                self.peaks[pid] = max(self.peaks.get(pid, 0), _high_water(pid))
            time.sleep(0.02)

    def _children(self) -> list[int]:
        try:
            return [
                int(p)
                for p in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            ]
        except OSError:
            return []


def _high_water(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def time_prepare(source: Path, out: Path, processes: int) -> tuple[float, int, int]:
    """Seconds, and peak bytes of the main process and of the largest worker."""
    command = [
        sys.executable,
        "-m",
        "hccr_tf",
        "data",
        "prepare",
        str(source),
        "--out",
        str(out),
        "--workers",
        str(processes),
    ]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        memory = PeakMemory(process.pid)
        memory.start()
        if process.wait():
            raise SystemExit(f"{' '.join(command)} failed")
        seconds = time.perf_counter() - begin
    memory.running = False
    main = memory.peaks.pop(process.pid)
    return seconds, main, max(memory.peaks.values(), default=0)


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--gnt", required=True, help="real .gnt files to perturb: folder or zip")
    parser.add_argument("--folder", default="runs/ingest", help="for input and stores (big)")
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, cores])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-file", type=int, default=3755, help="records a file (default 3755)")
    parser.add_argument("--out", default=str(RESULTS / "ingest.csv"), help="CSV file")
    options = parser.parse_args()
    folder = Path(options.folder)
    base = real_files(Path(options.gnt))
    rows = []
    for num_records in options.records:
        source = folder / f"input-{num_records}"
        shutil.rmtree(source, ignore_errors=True)
        num_bytes = write_input(source, base, num_records, options.per_file)
        os.sync()
        paths = sorted(map(str, source.iterdir()))
        for path in paths:
            hash_file(path)  # Into the cache, for both sides alike.
        for processes in options.processes:
            if processes > len(paths):
                continue
            timed = []
            for _ in range(options.rounds):
                out = folder / "store"
                shutil.rmtree(out, ignore_errors=True)
                hashing = time_hashing(paths, processes)
                timed.append((hashing, *time_prepare(source, out, processes)))
                store = hccr_tf.Store(out)
                assert len(store) == num_records, len(store)
            hashing, seconds, main_bytes, worker_bytes = np.median(timed, axis=0)
            rows.append(
                {
                    "records": num_records,
                    "bytes": num_bytes,
                    "processes": processes,
                    "seconds": round(seconds, 2),
                    "records_per_s": round(num_records / seconds),
                    "megabytes_per_s": round(num_bytes / seconds / 1e6),
                    "hashing_megabytes_per_s": round(num_bytes / hashing / 1e6),
                    "ratio_to_hashing": round(hashing / seconds, 3),
                    "ratio_lowest_highest": " ".join(
                        f"{r:.3f}" for r in np.sort([t[0] / t[1] for t in timed])[[0, -1]]
                    ),
                    "main_peak_mib": round(main_bytes / 2**20),
                    "worker_peak_mib": round(worker_bytes / 2**20),
                    "rounds": options.rounds,
                    "data_hash": store.data_hash[:16],
                    "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
                    "command": f"python benchmarks/ingest.py --gnt {Path(options.gnt).name}",
                }
            )
            shown = pd.DataFrame(rows[-1:]).drop(columns=["hardware", "command"])
            print(shown.to_string(index=False), flush=True)
            Path(options.out).parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_csv(options.out, index=False)
        shutil.rmtree(source)
        shutil.rmtree(folder / "store", ignore_errors=True)


if __name__ == "__main__":
    main()
