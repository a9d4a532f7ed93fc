"""Images of concurrent requests, read together by one thread."""

import asyncio
import functools
import itertools
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from pydantic import BaseModel, Field

from hccr_tf.images.cleaning import ImageError
from hccr_tf.inference.recognizer import Recognition, Recognizer
from hccr_tf.serving.limits import Limits


class Options(BaseModel, frozen=True):
    """How images are to be read."""

    top_k: int = Field(5, ge=1, le=100, description="characters to name")
    level: int | None = Field(
        None, ge=1, le=2, description="1: only GB2312's level 1 competes; 2: all of GB2312"
    )
    single: bool = Field(True, description="whether to refuse images of several characters")


@dataclass
class _Job:
    images: Sequence[Any]
    options: Options
    answers: Future = field(default_factory=Future)


class Batcher:
    """Reads images in one thread, those of all requests that wait together.

    Args:
        recognizer: what reads them.
        limits: `max_batch` and `max_megapixels` count.
        registry: gets how many images were read together.
    """

    def __init__(self, recognizer: Recognizer, limits: Limits, registry: CollectorRegistry):
        self._at_level = functools.cache(recognizer.at_level)
        self._limits = limits
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        name, help = "hccr_batch_images", "Images that were read together"
        sizes = [2**i for i in range(8)]
        self._sizes = Histogram(name, help, buckets=sizes, registry=registry)
        threading.Thread(target=self._work, daemon=True).start()

    async def read(self, images: Sequence[Any], options: Options) -> list[Recognition | ImageError]:
        """Returns what each image was read as, or why it wasn't.

        Args:
            images: bytes of image files, or uint8 arrays (H, W, 1), (H, W, 3) or (H, W, 4).
            options: how they're to be read.

        Raises:
            HccrError: the run knows no character of the level, or an array of another shape.
        """
        self._at_level(options.level)
        job = _Job(images, options)
        self._jobs.put(job)
        return await asyncio.wrap_future(job.answers)

    def _work(self) -> None:
        while True:
            jobs = [self._jobs.get()]
            while sum(len(job.images) for job in jobs) < self._limits.max_batch:
                try:
                    jobs.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            # Nobody waits any more for those whose time was up.
            jobs = [job for job in jobs if job.answers.set_running_or_notify_cancel()]
            for options in {job.options for job in jobs}:
                self._answer([job for job in jobs if job.options == options])

    def _answer(self, jobs: list[_Job]) -> None:
        """Reads the images of requests with the same options."""
        images = [image for job in jobs for image in job.images]
        top_k, level, single = jobs[0].options.top_k, jobs[0].options.level, jobs[0].options.single
        most = int(self._limits.max_megapixels * 1e6)
        try:
            reader = self._at_level(level)
            each = reader.predict_each(images, top_k, single=single, max_pixels=most)
            answers = iter(list(each))
        except Exception as error:
            if len(jobs) == 1:
                return jobs[0].answers.set_exception(error)
            for job in jobs:  # an image that shows a bug costs nobody else an answer
                self._answer([job])
            return
        self._sizes.observe(len(images))
        for job in jobs:
            job.answers.set_result(list(itertools.islice(answers, len(job.images))))
