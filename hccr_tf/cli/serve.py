"""`hccr serve`: predictions over HTTP."""

from functools import partial

from hccr_tf.cli.flags import add_settings, argument, command, group
from hccr_tf.cli.predict import NO_TTA
from hccr_tf.serving.limits import Limits
from hccr_tf.utils import backend
from hccr_tf.utils.settings import settings_of


@command(
    "serve",
    "answer over HTTP: a page, predictions, metrics",
    argument(
        "--workdir",
        "a trained run or a file of `hccr export` (default: the package's own weights)",
        metavar="RUN|F.onnx",
    ),
    argument("--host", "address to listen on; 0.0.0.0 for all", default="127.0.0.1"),
    argument("--port", "port to listen on; 0 for any that's free", default=8000),
    NO_TTA,
    group("limits", partial(add_settings, settings=settings_of(Limits))),
)
def run_serve(workdir, host, port, tta, **limits) -> None:
    """Serves a page at /, predictions at /v1/predict, and the Open Inference Protocol at /v2.

    Images come as the body of a request or as files of a form. /metrics is for Prometheus, and
    /openapi.json describes it all. SIGTERM or Ctrl-C stops it; requests that wait are answered
    first. Only this machine is listened to unless --host says otherwise: there are no passwords
    and no encryption, which are a reverse proxy's to add.

    Examples:
      hccr serve --workdir runs/demo/model1 --port 8000
      curl --data-binary @photo.jpg 'http://127.0.0.1:8000/v1/predict?top_k=3'
      curl -F image=@1.png -F image=@2.png http://127.0.0.1:8000/v1/predict
    """
    checked = Limits(**limits)
    from hccr_tf.inference.recognizer import exported_file
    from hccr_tf.serving.server import serve

    if not exported_file(workdir):
        backend.start()
    serve(workdir, host, port, checked, tta=tta)
