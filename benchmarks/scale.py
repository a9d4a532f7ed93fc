"""What training by several processes costs, and how far its weights are from those of one.

  python benchmarks/scale.py model --network brick_net      # results/scale_model.csv
  python benchmarks/scale.py equality --data store          # results/scale_equality.csv
  python benchmarks/scale.py growth --data store            # results/scale_growth.csv
  python benchmarks/scale.py speed --data store             # results/scale_speed.csv

`model` computes a step of a training on 1, 8 and 64 devices (of 8 a machine), in milliseconds:

compute      6 times the multiply-accumulates of a device's images over --efficiency times the
             card's peak in bfloat16, by its data sheet
exchange     gradients, 4 bytes a value, by a ring: 2 (n - 1) / n of them pass each device at the
             link's rate, within a machine or between machines
input        a process's images at the rate that `input_pipeline.csv` measured on two cores
checkpoint   12 bytes a parameter at the rate that `checkpoint_cost.csv` measured, each ten
             minutes or seldomer, for at most 2 % of the time

Reading overlaps with computing, and so may most of the exchange: a step takes between `least_ms`,
the longest of the first three, and `most_ms`, compute and exchange one after the other; checkpoints
come on top. `bound` names the longest.
`equality` trains an epoch, whose last batch isn't whole, of a recipe of each family, small, by 1, 2
and 4 processes: the norm of the difference of weights to those of one, over their norm; `growth`
that of one recipe step by step. `speed` trains by 1 and 2 processes of one
thread.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, arguments_of
from safetensors.numpy import load_file

from hccr_tf.utils.files import write_csv

# TFLOP/s in bfloat16; GB/s each way to another device of the machine, and of another machine.
CARDS = {"H100": (989, 450, 50), "A100": (312, 300, 25), "L4": (121, 32, 12.5)}
SMALL = {  # a recipe of each family
    "brick_model1": {"model.num_bricks": 2, "model.width": 16},
    "melnyk_net_c": {"image_size": 32, "model.width": 8},
    "convnet": {"model.width": 4, "model.blocks": (1, 1, 1)},
    "resnet": {"model.width": 4, "model.blocks": (1, 1, 1)},
    "mrbc": {"model.width": 4, "model.blocks": (1, 1, 1)},
    "mrbc_ir": {"model.width": 4, "model.attention_width": 8, "model.units": 16},
    "recogniser": {"image_size": 32, "model.width": 4},
    "transfer": {
        "model": "applications:MobileNetV3Small",
        "image_size": 32,
        "stages": "backbone:1,100:1",
        "epochs": 2,
    },
}
XLA = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def model(options) -> None:
    from hccr_tf.evaluation.complexity import count_macs
    from hccr_tf.models import blueprint

    network = blueprint(options.network, num_classes=options.num_classes)
    parameters, macs = network.count_params(), count_macs(network)
    largest = max((v for v in network.trainable_variables), key=lambda v: np.prod(v.shape))
    rows, columns = largest.shape[0], int(np.prod(largest.shape[1:]))
    pipeline = pd.read_csv(RESULTS / "input_pipeline.csv")
    measured = pipeline.query("loader == 'NumPy iterator' and size == 256 and blur == '7x7'")
    rate = options.input_rate or float(measured["images_per_second"].iloc[0])
    cost = pd.read_csv(RESULTS / "checkpoint_cost.csv").iloc[0]
    disk = 1e6 * cost["checkpoint_megabytes"] / cost["seconds_a_save"]
    table = []
    for card, (peak, inside, between) in CARDS.items():
        for devices in (1, 8, 64):
            images = options.batch_size
            compute = images * 6 * macs / (options.efficiency * peak * 1e12)
            link = (inside if devices <= 8 else between) * 1e9
            ring = 2 * (devices - 1) / devices
            exchange = ring * 4 * parameters / link
            # A device keeps its part of the largest matrix: inputs and their gradients go round.
            head = 4 * rows * columns
            sharded = ring * (4 * parameters - head) / link
            sharded += 2 * (devices - 1) / devices * images * rows * 2 / link
            reading = images / rate
            longest = {"compute": compute, "exchange": exchange, "input": reading}
            least, most = max(longest.values()), max(compute + exchange, reading)
            saving = 12 * parameters / disk
            row = {"card": card, "devices": devices, "images_a_device": images}
            row |= {f"{name}_ms": round(1000 * value, 2) for name, value in longest.items()}
            row |= {"least_ms": round(1000 * least, 2), "most_ms": round(1000 * most, 2)}
            row["bound"] = max(longest, key=longest.__getitem__)
            row["exchange_head_kept_ms"] = round(1000 * sharded, 2)
            row["checkpoint_share"] = round(min(saving / (600 + saving), 0.02), 4)
            row["hours_an_epoch"] = round(options.images / (images * devices) * most / 3600, 2)
            table.append(row)
    print(
        f"{options.network}: {parameters:,} parameters, {macs / 1e9:.2f} GMAC an image; the largest"
    )
    print(f"matrix {rows:,} x {columns:,}; {rate:,.0f} images/s read by a process")
    table = pd.DataFrame(table)
    write_csv(RESULTS / "scale_model.csv", table)
    print(table.to_string(index=False))


def train_all(data: str, folder: Path, number: int, recipes: dict, **environment: str) -> None:
    """Trains recipes one after another by so many processes of one thread, each in its folder."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = f"{XLA} --xla_cpu_multi_thread_eigen=false"
    variables = {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags, "OMP_NUM_THREADS": "1"}
    given = json.dumps([data, str(folder), address, number, recipes])
    command = [sys.executable, __file__, "member", "--given", given, "--process"]
    processes = []
    for i in range(number):
        with open(f"{folder}-{i}.log", "w") as log:
            one = [*command, str(i)]
            started = subprocess.Popen(one, env=variables | environment, stdout=log, stderr=log)
        processes.append(started)
    for i, process in enumerate(processes):
        if process.wait():
            raise SystemExit(f"error: {number} processes failed; see {folder}-{i}.log")


def member(options) -> None:
    """Is one of the processes of `train_all`."""
    import keras

    from hccr_tf import get_recipe, train
    from hccr_tf.training import checkpoints, processes

    if "KEEP" in os.environ:  # all checkpoints
        checkpoints.KEPT = 10**6
    data, folder, address, number, recipes = json.loads(options.given)
    if number > 1:
        processes.join(address, number, options.process)
    for name, settings in recipes.items():
        recipe = get_recipe(name).override(settings)
        often = checkpoints.CheckpointInterval(steps=1)
        train(recipe, data, Path(folder) / name, init_from="none", checkpoints=often)
        keras.utils.clear_session()


def difference(one: Path, other: Path) -> float:
    """Returns the norm of the difference of two checkpoints' weights over that of the weights."""
    loaded = []
    for path in (one, other):
        named = sorted(load_file(path).items())  # beside weights, seeds are integers
        arrays = [
            a.ravel() for name, a in named if name.startswith("model/") and a.dtype.kind == "f"
        ]
        loaded.append(np.concatenate(arrays).astype(np.float64))
    return float(np.linalg.norm(loaded[0] - loaded[1]) / np.linalg.norm(loaded[0]))


def equality(options) -> None:
    from hccr_tf import get_recipe

    shared = {"image_size": 16, "batch_size": 128, "epochs": 1}
    recipes = {name: {**shared, **small} for name, small in SMALL.items()}
    table = [
        {"recipe": name, "model": get_recipe(name).override(small).model}
        for name, small in recipes.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        runs = {number: Path(folder) / str(number) for number in (1, 2, 4)}
        for number, path in runs.items():
            train_all(options.data, path, number, recipes)
            for row in table:
                name = row["recipe"]
                row["steps"] = pd.read_csv(path / name / "history.csv")["step"].iloc[-1]
                if number > 1:
                    newest = [max((runs[n] / name).glob("checkpoints/step-*")) for n in (1, number)]
                    row[f"difference_{number}"] = difference(*newest)
    table = pd.DataFrame(table)
    write_csv(RESULTS / "scale_equality.csv", table, float_format="%.1e")
    print(table.to_string(index=False))


def growth(options) -> None:
    """Step by step, on one device and on two."""
    own = {"image_size": 24, "batch_size": 32, "epochs": 2, **SMALL["brick_model1"]}
    table = []
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / str(devices) for devices in (1, 2)]
        for devices, path in enumerate(runs, 1):
            flags = f"{XLA} --xla_force_host_platform_device_count={devices}"
            train_all(options.data, path, 1, {"brick_model1": own}, KEEP="1", XLA_FLAGS=flags)
        for step in sorted((runs[0] / "brick_model1" / "checkpoints").glob("step-*")):
            other = runs[1] / step.relative_to(runs[0])
            table.append({"step": int(step.stem[-9:]), "float32": difference(step, other)})
    table = pd.DataFrame(table)
    write_csv(RESULTS / "scale_growth.csv", table, float_format="%.1e")
    print(table.to_string(index=False))


def speed(options) -> None:
    """Images a second of the last of four epochs, which compiles nothing."""
    own = {"image_size": 32, "batch_size": 64, "epochs": 4, "model.width": 8}
    table = []
    for number in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "runs"
            train_all(options.data, path, number, {"recogniser": own})
            run = json.loads((path / "recogniser" / "run.json").read_text())
        table.append({"processes": number, "images_per_second": run["images_per_second"]})
    table = pd.DataFrame(table)
    write_csv(RESULTS / "scale_speed.csv", table)
    print(table.to_string(index=False))


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("part", choices=["model", "equality", "growth", "speed", "member"])
    parser.add_argument("--given", help="to a member, by the process that started it")
    parser.add_argument("--process", type=int, help="number of a member")
    parser.add_argument("--data", help="store of hccr data prepare, for equality and speed")
    parser.add_argument("--network", default="brick_net", help="(default brick_net)")
    parser.add_argument("--num-classes", type=int, default=7330, help="(default 7330)")
    parser.add_argument("--images", type=int, default=3_000_000, help="an epoch (default 3e6)")
    parser.add_argument("--batch-size", type=int, default=128, help="of a device (default 128)")
    parser.add_argument("--efficiency", type=float, default=0.3, help="assumed (default 0.3)")
    parser.add_argument("--input-rate", type=float, help="images/s a process (default: measured)")
    options = parser.parse_args()
    parts = {
        "model": model,
        "equality": equality,
        "growth": growth,
        "speed": speed,
        "member": member,
    }
    parts[options.part](options)


if __name__ == "__main__":
    main()
