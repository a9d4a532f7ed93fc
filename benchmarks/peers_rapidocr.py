"""RapidOCR on a folder of images of single characters; run by peers.py with its own Python.

RapidOCR brings `opencv-python`, which must not be installed beside this package's headless
build, so it lives in another environment: python -m venv peers;
peers/bin/pip install rapidocr onnxruntime.
"""

import csv
import sys
import time
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from rapidocr import RapidOCR


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    engine = RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Global.log_level": "error",
        }
    )
    rows = []
    for path in sorted(folder.glob("*.png")):
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        start = time.perf_counter()
        result = engine(image, use_det=False, use_cls=False, use_rec=True)
        seconds = time.perf_counter() - start
        rows.append([path.stem, "".join(result.txts or ()), round(1000 * seconds, 3)])
    with open(out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "text", "ms"])
        writer.writerows(rows)
    print(f"RapidOCR {version('rapidocr')}")


if __name__ == "__main__":
    main()
