"""The web application: the page, /v1/predict, the Open Inference Protocol, /metrics, OpenAPI."""

from dataclasses import dataclass
from typing import Annotated, Any

import prometheus_client
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as AnyHTTPException

from hccr_tf import __version__
from hccr_tf.inference.recognizer import Recognition, Recognizer
from hccr_tf.serving.admission import Admission, refusal
from hccr_tf.serving.batcher import Batcher, Options
from hccr_tf.serving.limits import Limits
from hccr_tf.serving.open_inference import describe, routes
from hccr_tf.utils.errors import HccrError

_FILE = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "properties": {"image": {"type": "array", "items": _FILE}}}
_BODY = {"multipart/form-data": {"schema": _FORM}, "image/*": {"schema": _FILE}}


@dataclass
class Failure:
    """Why an image, or a whole request, wasn't read."""

    error: str


class Prediction(BaseModel):
    """An answer for each image, in order; `error` where none could be read."""

    results: list[Recognition | Failure]
    error: str | None = None


def create_app(recognizer: Recognizer, name: str, page: bytes, limits: Limits) -> FastAPI:
    """Returns the ASGI application.

    Args:
        recognizer: what reads the images.
        name: of the model, in the Open Inference Protocol.
        page: HTML in UTF-8 for /.
        limits: what is taken, at most.
    """
    handlers: dict[Any, Any] = {
        AnyHTTPException: lambda _, e: refusal(e.status_code, e.detail, e.headers),
        RequestValidationError: lambda _, e: refusal(400, describe(e.errors())),
        HccrError: lambda _, e: refusal(400, str(e)),
        Exception: lambda *_: refusal(500, "The server failed; its log says where."),
    }
    app = FastAPI(
        title="hccr_tf",
        version=__version__,
        exception_handlers=handlers,
        responses={"4XX": {"model": Failure, "description": "Refused, and why"}},
        docs_url=None,  # FastAPI's pages on the interface load scripts from elsewhere
        redoc_url=None,
    )
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry)
    app.add_middleware(Admission, limits=limits, registry=registry)
    batcher = Batcher(recognizer, limits, registry)
    app.include_router(routes(name, batcher, limits))

    @app.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return Response(page, media_type="text/html")

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        latest = prometheus_client.generate_latest(registry)
        return Response(latest, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    @app.post(
        "/v1/predict",
        response_model_exclude_none=True,
        responses={422: {"model": Prediction, "description": "No image could be read"}},
        openapi_extra={"requestBody": {"content": _BODY, "required": True}},
    )
    async def predict(
        request: Request, response: Response, options: Annotated[Options, Query()]
    ) -> Prediction:
        """Reads one image, the body, or several, the files of a form."""
        answers = await batcher.read(await _images(request, limits.max_images), options)
        results = [a if isinstance(a, Recognition) else Failure(str(a)) for a in answers]
        unread = [result.error for result in results if isinstance(result, Failure)]
        if len(unread) < len(results):
            return Prediction(results=results)
        response.status_code = 422
        return Prediction(results=results, error=unread[0])

    return app


async def _images(request: Request, most: int) -> list[bytes]:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        images = [await request.body()]
    else:
        async with request.form(max_files=most) as form:
            files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
            images = [await file.read() for file in files]
    if not any(images):
        raise HTTPException(400, "There is no image: send its bytes, or files of a form.")
    return images
