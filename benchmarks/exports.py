"""Every network as a file for other engines: size, largest difference, time beside Keras's.

  export OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
  PYTHONPATH=tests/helpers .venv/bin/python benchmarks/exports.py [NETWORK …]

Networks have their own widths, drawn weights, 15 classes and 64×64 images. Differences of logits
are those that `hccr export` finds. Times are of one image, medians of 20 readings, in milliseconds
of processor time on one thread. Writes results/exports.csv, a row for each network and format.
"""

import statistics
import tempfile
import time
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from common import RESULTS, arguments_of
from untrained import untrained_run

from hccr_tf import Predictor, export_run, list_models
from hccr_tf.export.export import FORMATS
from hccr_tf.runs.workdir import environment

SIDE = 64
SETTINGS = {"brick_net": {"num_bricks": 4}}  # five take larger images


def main() -> None:
    parser = arguments_of(__doc__)
    names = [*list_models(), "applications:MobileNetV3Small"]
    parser.add_argument("networks", nargs="*", default=names, help="of `hccr list`; all if none")
    file = RESULTS / "exports.csv"
    for name in parser.parse_args().networks:
        keras.backend.clear_session()
        with tempfile.TemporaryDirectory() as folder:
            table = pd.DataFrame(measured(name, Path(folder)))
        print(table.to_string(index=False), flush=True)
        if file.exists():  # rows of other networks stay
            old = pd.read_csv(file)
            table = pd.concat([old[old["network"] != name], table])
        table.sort_values("network", kind="stable").to_csv(file, index=False)


def measured(name: str, folder: Path) -> list[dict]:
    """Makes a run, exports it to every format, and reads an image with each."""
    run = untrained_run(folder / "untrained", name, image_size=SIDE, **SETTINGS.get(name, {}))
    predictor, machine, rows = Predictor(run), environment(), []
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 1), dtype=np.uint8)
    keras_ms = milliseconds(predictor.logits, image)
    for format, known in FORMATS.items():
        done = export_run(run, folder / f"run{known.suffix}", format=format)
        read = import_module(f"hccr_tf.export.{format}").read(done.path)
        row = {
            "network": name,
            "parameters": predictor.model.count_params(),
            "format": format,
            "megabytes": round(done.num_bytes / 1e6, 2),
            "difference": f"{done.largest_difference:.1e}",
            "equal_answers": done.equal_answers,
            "keras_ms": keras_ms,
            "ms": milliseconds(read, image),
            "command": f"benchmarks/exports.py {name}",
            "hardware": machine["cpu"],
        }
        packages = ("tensorflow", "keras")
        rows.append(row | {package: machine["packages"][package] for package in packages})
    return rows


def milliseconds(read, image: np.ndarray) -> float:
    """Processor time of one reading."""
    read(image)  # compiles
    times = []
    for _ in range(20):
        start = time.process_time()
        read(image)
        times.append(1000 * (time.process_time() - start))
    return round(statistics.median(times), 2)


if __name__ == "__main__":
    main()
