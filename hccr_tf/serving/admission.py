"""Which requests are let in: how many at once, of what size, for how long."""

import asyncio
import time

from prometheus_client import CollectorRegistry, Gauge, Histogram
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hccr_tf.serving.limits import Limits


def refusal(status: int, message: str, headers=None) -> JSONResponse:
    """Returns the answer to a request that failed: {"error": message}."""
    return JSONResponse({"error": message}, status, headers)


class Admission:
    """ASGI middleware that holds POST requests to limits, and measures them.

    Above `max_waiting` they get status 429, above `max_megabytes` 413, after `timeout` 503.
    """

    def __init__(self, app: ASGIApp, limits: Limits, registry: CollectorRegistry):
        self._app, self._limits, self._waiting = app, limits, 0
        waiting = Gauge("hccr_waiting_requests", "POST requests under way", registry=registry)
        waiting.set_function(lambda: self._waiting)
        name, help = "hccr_request_seconds", "POST requests, from their first byte to the last"
        self._seconds = Histogram(name, help, ["status"], registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        limits, started, status, size = self._limits, time.perf_counter(), None, 0

        async def limited_receive() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limits.max_megabytes * 1e6:
                most = f"{limits.max_megabytes:g} megabytes"
                raise HTTPException(413, f"The request has more than {most}.")
            return message

        async def noting_send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        async def refuse(status: int, message: str) -> None:
            await refusal(status, message, {"Retry-After": "1"})(scope, receive, noting_send)

        admitted = self._waiting < limits.max_waiting
        self._waiting += admitted
        try:
            if not admitted:
                return await refuse(429, "Too many requests are waiting; try again in a second.")
            async with asyncio.timeout(limits.timeout):
                await self._app(scope, limited_receive, noting_send)
        except TimeoutError:
            if status is None:
                await refuse(503, f"There was no answer within {limits.timeout:g} seconds.")
        finally:
            self._waiting -= admitted
            self._seconds.labels(status).observe(time.perf_counter() - started)
