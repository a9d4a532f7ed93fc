"""What a first answer costs: installed megabytes, and seconds of a new process, beside RapidOCR.

  python3.11 -m venv own && own/bin/pip install .
  python3.11 -m venv rapid && rapid/bin/pip install rapidocr onnxruntime
  OMP_NUM_THREADS=1 .venv/bin/python benchmarks/first_answer.py --own own --rapidocr rapid \
      --image photo.png

Each program reads the image in a process of its own, by turns, so that both have the same machine;
medians of processor time and of time. Writes results/first_answer.csv.
"""

import resource
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, arguments_of

_TIMES = 9
_RAPIDOCR = (
    "import sys; from rapidocr import RapidOCR; engine = RapidOCR(params={"
    "'EngineConfig.onnxruntime.intra_op_num_threads': 1, 'Global.log_level': 'error'}); "
    "print(engine(sys.argv[1], use_det=False, use_cls=False, use_rec=True).txts)"
)


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--own", type=Path, required=True, help="environment of the base install")
    parser.add_argument("--rapidocr", type=Path, required=True, help="environment of RapidOCR")
    parser.add_argument("--image", required=True)
    options = parser.parse_args()
    commands = {
        "hccr predict": [options.own / "bin" / "hccr", "predict", options.image],
        "RapidOCR": [options.rapidocr / "bin" / "python", "-c", _RAPIDOCR, options.image],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(_TIMES):
        for name, command in commands.items():
            taken[name].append(seconds(command))
    rows = []
    for (name, times), folder in zip(taken.items(), (options.own, options.rapidocr), strict=True):
        processor, wall = np.median(times[1:], axis=0)  # the first reads files from the disk
        rows.append(
            {
                "program": name,
                "installed_megabytes": round(installed(folder) / 1e6),
                "processor_seconds": round(processor, 2),
                "seconds": round(wall, 2),
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "first_answer.csv", index=False)
    print(table.to_string(index=False))


def seconds(command: list) -> tuple[float, float]:
    """Processor time and time of a program that must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return user + system, time.perf_counter() - start


def installed(environment: Path) -> int:
    """Bytes of what pip installed; pip itself and compiled bytes left out."""
    return sum(
        file.stat().st_size
        for file in (environment / "lib").rglob("*")
        if file.is_file() and file.suffix != ".pyc" and "/pip" not in str(file)
    )


if __name__ == "__main__":
    main()
