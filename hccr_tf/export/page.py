"""Write a run as a page in one file, which reads drawings and images in a browser."""

import base64
import gzip
import json
import re
import tempfile
from importlib.resources import files
from pathlib import Path

from hccr_tf.inference.onnx_predictor import OnnxPredictor
from hccr_tf.inference.recognizer import exported_file
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import atomic_write

MAX_BYTES = 16_000_000
_SOURCES = files("hccr_tf.export").joinpath("page")
_WASM = "onnxruntime-web/ort-wasm-simd-threaded.wasm.gz"


def export_page(
    workdir: str | Path, out: str | Path, *, quantize: str = "int8", data: str | Path | None = None
) -> Path:
    """Writes a run as one HTML file that needs no network and opens from a disk.

    In it are the network as an ONNX file, ONNX Runtime for browsers, and the package's cleaning
    and preparation of images in JavaScript.

    Args:
        workdir: a trained run, an ONNX file of `export_run`, or "recogniser".
        out: the file to write.
        quantize: how a run's weights are stored, "int8" or "float16"; a file's stay as they are.
        data: a store whose images a run is held against Keras on; drawn ones if None.

    Returns:
        `out`.

    Raises:
        HccrError: no run, whatever `export_run` raises, or a page of more than 16 MB; nothing is
            written then.
    """
    out = Path(out)
    if model := exported_file(workdir):
        page = _page(model)
    else:
        from hccr_tf.export.export import export_run  # Keras and onnx: a file needs neither

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "run.onnx"
            page = _page(export_run(workdir, file, quantize=quantize, data=data).path)
    if len(page) > MAX_BYTES:
        raise HccrError(
            f"The page of {workdir} would have {len(page) / 1e6:.1f} MB, and more than "
            f"{MAX_BYTES / 1e6:.0f} MB is too much for telephones. Quantise to int8, or train a "
            "smaller network (compact_net)."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as temporary:
        temporary.write_bytes(page)
    return out


def _page(model: Path) -> bytes:
    predictor = OnnxPredictor(model)
    facts = {
        "characters": predictor.charset.text,
        "preprocessing": predictor.preprocessing.to_dict(),
        "temperature": predictor.temperature,
    }
    assets = {
        "facts": json.dumps(facts, ensure_ascii=False).replace("<", r"\u003c"),
        "wasm": _base64(_SOURCES.joinpath(_WASM).read_bytes()),
        "model": _base64(gzip.compress(model.read_bytes(), mtime=0)),
    }
    scripts = [f'<script type="text/plain" id="{i}">{text}</script>' for i, text in assets.items()]
    scripts.append(f'<script type="module">\n{_module("page.mjs")}</script>')
    page = _text("page.html").replace("/*STYLE*/", _text("page.css"))
    return page.replace("<!--ASSETS-->", "\n".join(scripts)).encode()


def _module(name: str) -> str:
    """A module in which those that it names are data: a file opened from a disk imports none."""
    return re.sub(
        r'"\./([\w./-]+\.mjs)"',
        lambda found: f'"data:text/javascript;base64,{_base64(_module(found[1]).encode())}"',
        _text(name),
    )


def _text(name: str) -> str:
    return _SOURCES.joinpath(name).read_text("utf-8")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
