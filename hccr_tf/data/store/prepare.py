"""Makes a store: discovers what sources hold, reads it in several processes, writes it down."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from hccr_tf.charset import Charset
from hccr_tf.data.sources.catalogue import check_counts
from hccr_tf.data.sources.discovery import Chunk, Discovery
from hccr_tf.data.store.format import MANIFEST
from hccr_tf.data.store.splits import SplitRule
from hccr_tf.data.store.store import Store
from hccr_tf.data.store.writer import Shard, ShardWriter, assemble
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import exclusive_lock, replace_directory, sha256_file, write_json
from hccr_tf.utils.progress import progress_bar

_SMALL = 16 << 20  # Bytes that are read sooner than processes start.
_PathLike = str | os.PathLike[str]
_Result = TypeVar("_Result")


def prepare(
    sources: _PathLike | Sequence[_PathLike],
    out: _PathLike,
    split: str = "auto",
    seed: int = 1,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.05,
    validation_split: str = "auto",
    overwrite: bool = False,
    progress: bool = True,
    workers: int | None = None,
    charset: Charset | None = None,
    photographs: bool = False,
) -> Store:
    """Reads sources into a new store.

    Everything unreadable is skipped, listed and counted in the store. The store appears under its
    name only when it is complete; until then it is in a hidden folder beside it, and what an
    earlier call that was killed left there is removed. Memory grows with the number of samples
    (about 150 bytes each), not with their size.

    Args:
        sources: Folders, archives and files, one or several: `.gnt`, images by class, Chinese
            MNIST, stores, and folders and zip archives of all those.
        out: The store's folder, which must not exist yet, or be empty.
        split: "auto", "source", "writer" or "shuffle"; see `splits.assign_splits`.
        seed: Seeds the draw of test and validation samples.
        test_fraction: Share of the test set where the source gives none.
        validation_fraction: Share of the training samples that becomes validation.
        validation_split: How those are chosen: "writer", "shuffle", or "auto" for "writer" where
            `split` is.
        overwrite: Whether an earlier store at `out` may be replaced.
        progress: Whether to show a progress bar, if standard error is a terminal.
        workers: Processes that read; the processors there are by default. The store's bytes do
            not depend on it.
        charset: The store's characters and their order; samples of others are left out, and
            counted in the manifest. By default all characters, by code point.
        photographs: Whether image files are cleaned, as `Recognizer` cleans what it reads: for
            scans and photographs, of which networks then see dark ink on white in training too.

    Returns:
        The store, opened.

    Raises:
        FileNotFoundError: A source does not exist.
        FileExistsError: `out` exists and is not empty, or is no store that could be replaced.
        HccrError: A source holds nothing of a known kind, no sample is readable, or the split is
            not possible with these sources.
        OSError: The disk is full, or another process prepares the same store. An earlier store is
            intact in every case.
    """
    out = Path(os.path.abspath(out))
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    paths = [Path(os.path.abspath(source)) for source in sources]
    if not paths:
        raise HccrError("no source given")
    if len(set(paths)) != len(paths):
        raise HccrError("a source is given twice")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    _check_replaceable(out, overwrite, paths)
    rule = SplitRule(split, seed, test_fraction, validation_fraction, validation_split)
    rule.check()
    work = out.parent / f".{out.name[:60]}.partial"
    work.mkdir(parents=True, exist_ok=True)
    busy = f"another process prepares {out}; wait until it has ended"
    try:
        with exclusive_lock(work / "lock", busy):
            try:
                _check_replaceable(out, overwrite, paths)  # It may have come while waiting.
                for leftover in (work / "store", work / "unpacked"):
                    shutil.rmtree(leftover, ignore_errors=True)
                (work / "store").mkdir()
                discovery = Discovery(work, photographs)
                for path, prefix in zip(paths, _prefixes(paths), strict=True):
                    discovery.add(path, prefix)
                shards = _read(discovery, work / "store", charset, workers, progress)
                manifest = assemble(work / "store", shards, discovery.skipped, rule, charset)
                manifest |= {"sources": discovery.sources, "photographs": photographs}
                manifest["known_sets"] = _compare_counts(discovery, manifest, charset)
                write_json(work / "store" / MANIFEST, manifest)
                replace_directory(work / "store", out)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC,
            f"the disk is full ({error.strerror}); {out} was not written and nothing there was "
            "changed. Free some space, or choose another --out",
        ) from error
    return Store(out)


def _read(
    discovery: Discovery, folder: Path, charset: Charset | None, workers: int | None, progress: bool
) -> list[Shard]:
    """Reads all chunks, each into a shard, and computes the sources' checksums."""
    chunks = discovery.chunks
    num_bytes = sum(chunk.num_bytes for chunk in chunks)
    if workers is None:
        workers = 1 if num_bytes < _SMALL else _num_processors()
    unhashed = [source for source in discovery.sources if "path" in source]
    hashing = [partial(sha256_file, source["path"]) for source in unhashed]
    reading = [partial(_read_chunk, c, folder, number, charset) for number, c in enumerate(chunks)]
    shards = []
    with (
        progress_bar("reading", num_bytes, progress) as advance,
        _run_in(min(workers, len(chunks) + len(hashing))) as run,
    ):
        for source, checksum in zip(unhashed, run(hashing), strict=True):
            source["sha256"] = checksum
            del source["path"]
        for chunk, shard in zip(chunks, run(reading), strict=True):
            shards.append(shard)
            advance(chunk.num_bytes)
    return shards


def _read_chunk(chunk: Chunk, folder: Path, number: int, charset: Charset | None) -> Shard:
    writer = ShardWriter(folder, number, charset)
    with contextlib.closing(writer):
        for record in chunk.records():
            writer.add(record)
        return writer.finish()


_Run = Callable[[Iterable[Callable[[], _Result]]], Iterator[_Result]]


@contextlib.contextmanager
def _run_in(workers: int) -> Iterator[_Run]:
    """Yields a function that calls functions in processes and yields their results in order."""
    if workers <= 1:
        yield lambda calls: (call() for call in calls)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker)

    def run(calls: Iterable[Callable[[], _Result]]) -> Iterator[_Result]:
        pending: deque[Future[_Result]] = deque()
        with _without_main():
            pending.extend(pool.submit(call) for call in calls)
        while pending:
            yield pending.popleft().result()

    try:
        yield run
    except BrokenProcessPool:
        raise ChildProcessError(
            "a reading process ended without a word (often the system ends it when memory runs "
            "out; fewer --workers take less)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    # Ctrl-C reaches all processes of a terminal; the first of them speaks for all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hides the caller's script, which new processes would run again if it has no guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _num_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _compare_counts(
    discovery: Discovery, manifest: dict[str, Any], charset: Charset | None
) -> dict[str, Any]:
    files = discovery.known_files
    checks = []
    if charset is None:
        num_writers, num_samples = manifest["writers"]["num_writers"], manifest["num_samples"]
        characters = Charset.from_text(manifest["charset"]["characters"])
        checks = check_counts(files, num_writers, num_samples, characters)
    return {"sets": [list(file) for file in files], "checks": [check._asdict() for check in checks]}


def _check_replaceable(out: Path, overwrite: bool, sources: list[Path]) -> None:
    for source in sources:
        if out.is_relative_to(source):
            raise HccrError(f"{out} lies inside the source {source}; choose another folder")
        if source.is_relative_to(out):
            raise HccrError(f"the source {source} lies inside {out}; choose another folder")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise FileExistsError(f"{out} is no plain folder and is not replaced")
    if not out.exists() or not any(out.iterdir()):
        return
    # A mistyped path must not cost a folder that was never a store.
    if not (out / MANIFEST).is_file():
        raise FileExistsError(f"{out} exists and is no store; choose another folder")
    if not overwrite:
        raise FileExistsError(f"{out} exists; use --overwrite to replace it")


def _prefixes(paths: list[Path]) -> list[str]:
    """Returns what goes before sample ids, so that sources of one name stay apart."""
    names = [path.name for path in paths]
    return [
        f"{path.parent.as_posix().lstrip('/')}/" if names.count(path.name) > 1 else ""
        for path in paths
    ]
