"""Processes that prepare batches beside each other, in memory that they share with this one.

Threads of one process take turns at the interpreter's lock, which on two processors costs
a tenth to a third of the speed, and more processors don't help. These are plain programs,
which need no guard in the caller's script and end when the process that began them does.

A batch's memory is a slot of one shared file. The request, indices and maps, is written into the
slot and replaced there by the images, so nothing is copied and what goes through the
pipes is a few bytes.
"""

import json
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import traceback
import weakref
from collections import deque
from concurrent.futures import Future

import numpy as np

from hccr_tf.data.dataset import Dataset, open_dataset
from hccr_tf.data.loading.preprocessing import Preprocessing

# Both are written and read in one piece, whoever else uses the pipe.
_REQUEST = struct.Struct("<qqq")  # slot, number of images, whether maps follow the indices
_ANSWER = struct.Struct("<qq")  # slot, bytes of an error message in it
_CHECK_SECONDS = 1.0
_END_SECONDS = 10.0


def are_possible() -> bool:
    """Whether this system has what they're made of: Linux."""
    return hasattr(os, "memfd_create")


class ReadingProcesses:
    """Prepares images of a store in processes.

    Args:
        store: whose images.
        preprocessing: how they're prepared.
        num_images: the most in a batch.
        num_processes: how many work.
        five_crops: whether to make the five crops of each.
        padded_to: side of squares for images that are left unprepared, or None.
    """

    def __init__(
        self,
        store: Dataset,
        preprocessing: Preprocessing,
        num_images: int,
        num_processes: int,
        *,
        five_crops: bool = False,
        padded_to: int | None = None,
    ):
        self._side = padded_to or preprocessing.image_size
        self._per_image = 5 if five_crops else 1
        self._padded = padded_to is not None
        image_bytes = num_images * self._per_image * self._side**2
        self._sizes_at = -(-image_bytes // 8) * 8
        request_bytes = num_images * (8 + 6 * 8)
        self._slot_bytes = max(self._sizes_at + num_images * 8, request_bytes)
        self._slot_bytes = -(-self._slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        num_slots = 4 * num_processes + 6
        file = os.memfd_create("hccr-batches")
        os.ftruncate(file, num_slots * self._slot_bytes)
        self._memory = memoryview(mmap.mmap(file, num_slots * self._slot_bytes))
        self._free = deque(range(num_slots))
        requests_out, self._requests = os.pipe()
        answers, answers_in = os.pipe()
        config = {
            "store": str(store.path.absolute()),
            "preprocessing": preprocessing.to_dict(),
            "five_crops": five_crops,
            "padded_to": padded_to,
            "files": [file, requests_out, answers_in],
            "slot_bytes": self._slot_bytes,
            "sizes_at": self._sizes_at,
        }
        command = [sys.executable, "-m", __name__, json.dumps(config)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        # Both signals may reach all processes at once, and training then still needs batches
        # until it has saved. They inherit what is blocked here, so it holds from their start.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._processes = [
                subprocess.Popen(command, pass_fds=config["files"], env=environment)
                for _ in range(num_processes)
            ]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for inherited in config["files"]:
            os.close(inherited)
        self._state = _State()
        self._close = weakref.finalize(self, _end, self._state, self._requests, self._processes)
        # It holds no reference to `self`, which can be dropped while it waits.
        threading.Thread(
            target=_take_answers,
            args=(answers, self._state, self._processes, self._memory, self._slot_bytes),
            name="hccr-answers",
            daemon=True,
        ).start()

    def prepare(
        self, indices: np.ndarray, affine: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Prepares one batch; any number of threads may wait here at once.

        Args:
            indices: int64 (n,), places in the store.
            affine: float64 (n, 2, 3), or None.

        Returns:
            uint8 (n or 5 n, H, W, 1), and of unprepared images their sizes, int32 (n, 2).
            None while others hold the memory of all batches, and after `close`: the caller
            prepares this one.

        Raises:
            ChildProcessError: a process failed; the message has its traceback.
        """
        try:
            slot = self._free.popleft()
        except IndexError:
            return None
        count = len(indices)
        memory = self._memory[slot * self._slot_bytes : (slot + 1) * self._slot_bytes]
        np.frombuffer(memory, np.int64, count)[:] = indices
        if affine is not None:
            np.frombuffer(memory, np.float64, count * 6, count * 8)[:] = affine.ravel()
        answer: Future[bool] = Future()
        with self._state.lock:
            if self._state.failure:
                raise ChildProcessError(self._state.failure)
            if self._state.ended:
                return None
            self._state.waiting[slot] = answer
            os.write(self._requests, _REQUEST.pack(slot, count, affine is not None))
        if not answer.result():
            return None
        shape = (count * self._per_image, self._side, self._side, 1)
        # One array owns the slot: views of it, sizes too, keep it from being used again.
        lent = np.frombuffer(memory, np.uint8)
        weakref.finalize(lent, self._free.append, slot).atexit = False
        images = lent[: int(np.prod(shape))].reshape(shape)
        if not self._padded:
            return images, None
        end = self._sizes_at + count * 8
        return images, lent[self._sizes_at : end].view(np.int32).reshape(count, 2)

    def close(self) -> None:
        """Ends the processes. Batches that were handed out stay valid."""
        self._close()


class _State:
    """What callers, the thread that takes answers and `close` share.

    Attributes:
        lock: guards all of it, and that nobody writes to a closed pipe.
        waiting: by slot; True for a batch that is done, False for one that won't be.
        ended: whether the processes were told to end.
        failure: why they can't go on, or nothing.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.waiting: dict[int, Future[bool]] = {}
        self.ended = False
        self.failure = ""


def _end(state: _State, requests: int, processes: list[subprocess.Popen]) -> None:
    with state.lock:
        state.ended = True
        os.close(requests)  # which they read as the end
    for process in processes:
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _take_answers(
    answers: int, state: _State, processes: list[subprocess.Popen], memory, slot_bytes: int
) -> None:
    while True:
        if not select.select([answers], [], [], _CHECK_SECONDS)[0]:
            codes = [process.poll() for process in processes]
            if any(code is not None for code in codes) and not state.ended:
                with state.lock:
                    state.failure = (
                        f"A process that reads batches ended by itself (exit codes {codes}). "
                        "Was memory short?"
                    )
                break
            continue
        record = os.read(answers, _ANSWER.size)
        if not record:  # all have ended
            break
        slot, num_bytes = _ANSWER.unpack(record)
        with state.lock:
            answer = state.waiting.pop(slot)
        if num_bytes:
            start = slot * slot_bytes
            text = bytes(memory[start : start + num_bytes]).decode("utf-8", "replace")
            answer.set_exception(ChildProcessError(f"A process that reads batches failed:\n{text}"))
        else:
            answer.set_result(True)
    os.close(answers)
    with state.lock:
        if not state.ended and not state.failure:
            state.failure = "All processes that read batches ended by themselves."
        for answer in state.waiting.values():
            if state.failure:
                answer.set_exception(ChildProcessError(state.failure))
            else:
                answer.set_result(False)
        state.waiting.clear()


def main() -> None:
    """What each process runs: requests from a pipe until it ends."""
    import cv2

    config = json.loads(sys.argv[1])
    file, requests, answers = config["files"]
    memory = memoryview(mmap.mmap(file, 0))
    store = open_dataset(config["store"])
    preprocessing = Preprocessing.from_dict(config["preprocessing"])
    side = config["padded_to"] or preprocessing.image_size
    cv2.setNumThreads(1)
    while record := os.read(requests, _REQUEST.size):
        slot, count, has_maps = _REQUEST.unpack(record)
        start = slot * config["slot_bytes"]
        part = memory[start : start + config["slot_bytes"]]
        message = b""
        try:
            indices = np.frombuffer(part, np.int64, count).copy()
            affine = None
            if has_maps:
                affine = np.frombuffer(part, np.float64, count * 6, count * 8).copy()
                affine = affine.reshape(count, 2, 3)
            images = store.images(indices)
            num_crops = 5 if config["five_crops"] else 1
            out = np.frombuffer(part, np.uint8, count * num_crops * side * side)
            out = out.reshape(count * num_crops, side, side, 1)
            if config["padded_to"]:
                sizes = np.frombuffer(part, np.int32, count * 2, config["sizes_at"])
                sizes.reshape(count, 2)[:] = preprocessing.pad_many(images, out)
            elif config["five_crops"]:
                preprocessing.apply_five_crops_many(images, out=out)
            else:
                preprocessing.apply_many(images, affine=affine, out=out)
        except Exception:
            message = traceback.format_exc().encode()[-config["slot_bytes"] :]
            part[: len(message)] = message
        os.write(answers, _ANSWER.pack(slot, len(message)))


if __name__ == "__main__":
    main()
