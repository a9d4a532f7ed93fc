"""The Open Inference Protocol, version 2 (KServe, Triton), over HTTP.

https://github.com/kserve/open-inference-protocol. Inputs may be JSON or, as Triton's clients send
them unless told otherwise, binary data behind the JSON.
"""

import base64
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ValidationError

from hccr_tf import __version__
from hccr_tf.inference.recognizer import Recognition
from hccr_tf.serving.batcher import Batcher, Options
from hccr_tf.serving.limits import Limits


class Tensor(BaseModel):
    """A tensor; `data` is flat or nested, and lacks where binary data follow the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferRequest(BaseModel):
    """One input, "image": BYTES [n], files in base64, or UINT8 [n, H, W, 1, 3 or 4].

    `parameters` are those of /v1/predict.
    """

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[Tensor]
    outputs: list[dict[str, Any]] | None = None


class InferResponse(BaseModel):
    """Outputs "character" and "probability", both [n, k], the most probable first."""

    model_name: str
    id: str | None = None
    outputs: list[Tensor]


_SCHEMA = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
_SCHEMA.pop("$defs")  # they're among the components already
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}}
_INPUT = {"name": "image", "datatype": "BYTES", "shape": [-1]}
_OUTPUTS = {"character": "BYTES", "probability": "FP32"}


def routes(name: str, batcher: Batcher, limits: Limits) -> APIRouter:
    """Returns the protocol's routes for one model.

    Args:
        name: of the model.
        batcher: what reads its images.
        limits: `max_images` counts.
    """
    router = APIRouter(prefix="/v2")

    @router.get("")
    async def server_metadata() -> dict:
        return {"name": "hccr_tf", "version": __version__, "extensions": []}

    @router.get("/health/live")
    @router.get("/health/ready")
    async def health() -> dict:
        return {"live": True}

    @router.get("/models/{model}/ready")
    async def model_ready(model: str) -> dict:
        return {"name": _known(model), "ready": True}

    @router.get("/models/{model}")
    async def model_metadata(model: str) -> dict:
        outputs = [{"name": n, "datatype": d, "shape": [-1, -1]} for n, d in _OUTPUTS.items()]
        about = {"name": _known(model), "platform": "hccr_tf"}
        return about | {"inputs": [_INPUT], "outputs": outputs}

    @router.post("/models/{model}/infer", response_model_exclude_none=True, openapi_extra=_BODY)
    async def infer(model: str, request: Request) -> InferResponse:
        _known(model)
        body = await request.body()
        try:
            length = int(request.headers.get("inference-header-content-length", len(body)))
            asked = InferRequest.model_validate_json(body[:length])
            options = Options.model_validate(asked.parameters)
            images = _images(asked.inputs, body[length:])
            names = [output["name"] for output in asked.outputs or ()] or list(_OUTPUTS)
            if not 1 <= len(images) <= limits.max_images or not _OUTPUTS.keys() >= set(names):
                most = limits.max_images
                raise ValueError(f"1 to {most} images are taken, and outputs are {[*_OUTPUTS]}")
        except ValidationError as error:
            raise HTTPException(400, describe(error.errors())) from error
        except (ValueError, TypeError, KeyError, OverflowError, struct.error) as error:
            raise HTTPException(400, f"The request isn't well formed: {error}") from error
        rows: list[tuple[str | float, ...]] = []
        for i, answer in enumerate(await batcher.read(images, options)):
            if not isinstance(answer, Recognition):
                raise HTTPException(400, f"image {i}: {answer}")
            rows += [(answer.character, answer.probability), *answer.alternatives]
        shape = [len(images), len(rows) // len(images)]
        data = dict(zip(_OUTPUTS, map(list, zip(*rows, strict=True)), strict=True))
        outputs = [Tensor(name=n, shape=shape, datatype=_OUTPUTS[n], data=data[n]) for n in names]
        return InferResponse(model_name=name, id=asked.id, outputs=outputs)

    def _known(model: str) -> str:
        if model != name:
            raise HTTPException(404, f"There is no such model; there is {name}.")
        return model

    return router


def describe(errors: Sequence[Any]) -> str:
    """Returns Pydantic's errors as one line: each with its place and what's wrong there."""
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors)


def _images(inputs: list[Tensor], binary: bytes) -> Sequence[Any]:
    """Returns the images of a request as `Batcher.read` takes them.

    Raises:
        ValueError: they aren't what their description says, as struct.error, TypeError and
            OverflowError.
    """
    (tensor,) = inputs
    kind = tensor.name, tensor.datatype, len(tensor.shape)
    if kind == ("image", "UINT8", 4):
        in_json = tensor.data is not None
        pixels = np.array(tensor.data, np.uint8) if in_json else np.frombuffer(binary, np.uint8)
        return list(pixels.reshape(tensor.shape))
    if kind != ("image", "BYTES", 1):
        raise ValueError("its input is image: BYTES [n], or UINT8 [n, H, W, channels]")
    images = [base64.b64decode(text, validate=True) for text in tensor.data or ()]
    while binary:
        (length,) = struct.unpack_from("<I", binary)
        images.append(binary[4 : 4 + length])
        binary = binary[4 + length :]
    if [len(images)] != tensor.shape:
        raise ValueError(f"the input has {len(images)} elements, not {tensor.shape}")
    return images
