"""Processes that read tasks beside each other.

Plain programs that get tasks as JSON lines and answer in JSON lines: unlike Python's own pools
they need no guard in the caller's script, share no memory, and end with the process that began
them, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hccr_tf.charset import Charset
from hccr_tf.data.sources.tasks import Container, Task
from hccr_tf.data.store.parts import Part, read_task
from hccr_tf.utils.files import sha256_file


def default_workers() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(
    jobs: Iterable[dict[str, Any]],
    workers: int,
    progress: Callable[[int], None],
    keep_open: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Runs jobs and yields their answers, in the order in which they are done.

    Args:
        jobs: As `do` takes them; taken from the iterator as workers get free.
        workers: Processes; with 1 the jobs run in this one.
        progress: Called with numbers of bytes that are done.
        keep_open: A file descriptor that the workers hold too, so that a lock on it lasts as long
            as any of them.

    Raises:
        OSError, ValueError: What a job raised.
        ChildProcessError: A worker ended without an answer.
    """
    if workers == 1:
        for job in jobs:
            yield do(job, progress)
        return
    jobs = iter(jobs)
    answers: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
    pool: list[_Worker] = []
    busy = 0
    try:
        for job in jobs:
            if len(pool) < workers:
                pool.append(_Worker(answers, keep_open))
                pool[-1].send(job)
                busy += 1
            else:
                worker, answer = _next_answer(answers, progress)
                worker.send(job)
                yield answer
        while busy:
            _, answer = _next_answer(answers, progress)
            busy -= 1
            yield answer
    finally:
        for worker in pool:
            worker.end()


def _next_answer(answers, progress) -> tuple[_Worker, dict[str, Any]]:
    while True:
        worker, answer = answers.get()
        if answer is None:
            raise ChildProcessError(worker.describe_end())
        if "progress" in answer:
            progress(answer["progress"])
        elif "error" in answer:
            raise _error(answer)
        else:
            return worker, answer


def _error(answer: dict[str, Any]) -> Exception:
    if answer["error"] == "ValueError":
        return ValueError(answer["message"])
    if answer["errno"] is not None:
        return OSError(answer["errno"], answer["message"], answer["filename"])
    return ChildProcessError(f"{answer['error']}: {answer['message']}")


class _Worker:
    """One process, and a thread that passes its answers on."""

    def __init__(self, answers: queue.SimpleQueue, keep_open: int | None):
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hccr_tf.data.store.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # NumPy's linear algebra has threads of its own, which nothing here uses.
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
            pass_fds=() if keep_open is None else (keep_open,),
        )
        self._answers = answers
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def _pass_on(self) -> None:
        for line in self._process.stdout:
            self._answers.put((self, json.loads(line)))
        self._answers.put((self, None))

    def send(self, job: dict[str, Any]) -> None:
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # Its end is among the answers.

    def describe_end(self) -> str:
        code = self._process.wait()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return (
            f"a reading process {how} (signal 9 is often the system's, when memory runs out; "
            "fewer --workers take less). The same command goes on where this one stopped"
        )

    def end(self) -> None:
        # SIGKILL: whatever it is writing is not taken for finished.
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


def do(job: dict[str, Any], progress: Callable[[int], None]) -> dict[str, Any]:
    """Does one job, plain data: reads a task, checks a part, or hashes a file."""
    if job["kind"] == "hash":
        return {"kind": "hash", "path": job["path"], "sha256": sha256_file(job["path"])}
    if job["kind"] == "check":
        part = Part.open(Path(job["folder"]), job["number"])
        sound = part is not None and part.is_sound()
        if sound:
            progress(job["num_bytes"])
        return {"kind": "check", "number": job["number"], "sound": sound}
    charset = None if job["charset"] is None else Charset.from_text(job["charset"])
    task = Task(**job["task"])
    read_task(Container(**job["container"]), task, Path(job["folder"]), charset, progress)
    return {"kind": "read", "number": task.number}


def read_job(
    container: Container, task: Task, folder: Path, charset: Charset | None
) -> dict[str, Any]:
    """The job of reading a task into a part."""
    return {
        "kind": "read",
        "container": asdict(container),
        "task": asdict(task),
        "folder": str(folder),
        "charset": None if charset is None else charset.text,
    }


def _main() -> None:
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def take() -> None:
        for line in sys.stdin.buffer:
            jobs.put(line)
        # The process that began this one is gone: nobody waits for the rest.
        os._exit(0)

    threading.Thread(target=take, daemon=True).start()
    pending = 0

    def say(answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def progress(num_bytes: int) -> None:
        nonlocal pending
        pending += num_bytes
        if pending >= 4 << 20:
            say({"progress": pending})
            pending = 0

    while True:
        job = json.loads(jobs.get())
        try:
            answer = do(job, progress)
        except (OSError, ValueError) as error:
            kind = "ValueError" if isinstance(error, ValueError) else type(error).__name__
            code = getattr(error, "errno", None)
            answer = {
                "error": kind,
                "errno": code,
                "message": error.strerror or str(error) if code is not None else str(error),
                "filename": getattr(error, "filename", None),
            }
        if pending:
            say({"progress": pending})
            pending = 0
        say(answer)


if __name__ == "__main__":
    try:
        _main()
    except (KeyboardInterrupt, BrokenPipeError):
        # Ctrl-C reaches all processes of a terminal; the first of them speaks for all.
        os._exit(errno.EINTR)
