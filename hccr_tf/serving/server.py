"""The server's process: what it loads, where it listens, how it stops."""

import logging
import math
import socket
import tempfile
from importlib import resources
from pathlib import Path

import uvicorn

from hccr_tf.export.page import export_page
from hccr_tf.inference.recognizer import Recognizer
from hccr_tf.pretrained import NAME
from hccr_tf.serving.app import create_app
from hccr_tf.serving.limits import Limits
from hccr_tf.utils.errors import HccrError

logger = logging.getLogger(__name__)


def serve(
    workdir: str | Path | None, host: str, port: int, limits: Limits, *, tta: bool = True
) -> None:
    """Serves until SIGTERM or Ctrl-C; requests that wait are answered first.

    Args:
        workdir: a run, an ONNX file, or None, as `Recognizer` takes it.
        host: address to listen on.
        port: its port; 0 for any that's free.
        limits: what is taken, at most.
        tta: as `Recognizer` takes it.

    Raises:
        HccrError: no run there.
        OSError: the port is taken, or the address isn't this machine's.
    """
    recognizer = Recognizer(workdir, tta=tta)
    name = NAME if workdir is None else Path(workdir).stem
    app = create_app(recognizer, name, read_page(workdir), limits)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listening:
        address = f"[{host}]" if ":" in host else host
        logger.info("%s on http://%s:%d", name, address, listening.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(limits.timeout),
        )
        uvicorn.Server(config).run(sockets=[listening])


def read_page(workdir: str | Path | None) -> bytes:
    """Returns the page of `hccr export --format page`, or a plain one where that can't be made."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "page.html"
            export_page(workdir or NAME, file)
            return file.read_bytes()
    except (ImportError, HccrError) as error:
        logger.info("The page at / only sends images here: %s", error)
        return (resources.files(__package__) / "upload.html").read_bytes()
