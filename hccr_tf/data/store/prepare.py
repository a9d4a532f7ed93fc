"""Makes a store: discovers what sources hold, reads it in several processes, writes it down."""

import contextlib
import errno
import logging
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from hccr_tf.charset import Charset
from hccr_tf.data.sources.catalogue import check_counts
from hccr_tf.data.sources.discovery import Chunk, Discovery
from hccr_tf.data.sources.labels import Labels
from hccr_tf.data.store.format import MANIFEST
from hccr_tf.data.store.parts import join_pieces, keep_piece, parts_folder, piece_names
from hccr_tf.data.store.splits import SplitRule
from hccr_tf.data.store.store import Store
from hccr_tf.data.store.writer import Shard, ShardWriter, assemble
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import exclusive_lock, replace_directory, sha256_file, write_json
from hccr_tf.utils.processes import ignore_signals, num_cores
from hccr_tf.utils.progress import progress_bar

logger = logging.getLogger(__name__)

_SMALL = 16 << 20  # Bytes that are read sooner than processes start.
_PathLike = str | os.PathLike[str]
_Call = tuple[int, Callable[[], Any]]  # with the bytes that it reads


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
    labels: _PathLike | None = None,
    join: bool = False,
) -> Store:
    """Reads sources into a new store, and opens it.

    Everything unreadable is skipped, listed and counted in the store. The store appears under its
    name only when it is complete; until then it is in a hidden folder beside it, and what an
    earlier call that was killed left there is removed. Memory grows with the number of samples
    (about 150 bytes each), not with their size.

    Args:
        sources: Folders, archives and files, one or several: `.gnt`, images by class, `.npz`,
            Chinese MNIST, stores, and folders and zip archives of all those.
        out: The store's folder, which must not exist yet, or be empty.
        split: How samples are dealt out; see `splits.SplitRule`, also for the next four.
        seed: Seeds the draw of test and validation samples.
        test_fraction: Share of the test set where the source gives none.
        validation_fraction: Share of the training samples that becomes validation.
        validation_split: How those are chosen.
        overwrite: Whether an earlier store at `out` may be replaced.
        progress: Whether to show a progress bar, if standard error is a terminal.
        workers: Processes that read; the processors there are by default. The store's bytes do
            not depend on it.
        charset: The store's characters and their order; samples of others are left out, and
            counted in the manifest. By default all characters, by code point. Numbers of classes
            in `.npz` files are places in it.
        photographs: Whether image files are cleaned, as `Recognizer` cleans what it reads: for
            scans and photographs, of which networks then see dark ink on white in training too.
        labels: A file of which path, folder or number is which character, where names don't say
            it; see `sources.labels`.
        join: Whether parts of `prepare_part`, of the same sources, are joined in place of reading.

    Raises:
        FileNotFoundError: A source does not exist.
        FileExistsError: `out` exists and is not empty, or is no store that could be replaced.
        HccrError: A source holds nothing of a known kind, no sample is readable, or the split is
            not possible with these sources.
        OSError: The disk is full, or another process prepares the same store. An earlier store is
            intact in every case.
    """
    out = Path(os.path.abspath(out))
    rule = SplitRule(split, seed, test_fraction, validation_fraction, validation_split)
    how = charset, photographs, labels
    with _discovered(sources, out, overwrite, *how) as (folder, discovery):
        calls = _calls(discovery, folder, charset)
        if join:
            names = piece_names(len(calls), discovery, charset)
            results = join_pieces(parts_folder(out), names, folder)
        else:
            results = _made(calls, workers, progress)
        for source in discovery.sources:
            if source.pop("path", None):
                source["sha256"] = results.pop(0)
        manifest = assemble(folder, results, discovery.skipped, rule, charset)
        known = discovery.known_files
        checks = check_counts(
            [] if charset else known,
            manifest["writers"]["num_writers"],
            manifest["num_samples"],
            Charset.from_text(manifest["charset"]["characters"]),
        )
        _tell_missing_validation(manifest)
        manifest |= {"sources": discovery.sources, "photographs": photographs}
        checked = [check._asdict() for check in checks]
        manifest["known_sets"] = {"sets": known, "checks": checked}
        write_json(folder / MANIFEST, manifest)
        replace_directory(folder, out)
    if join:
        shutil.rmtree(parts_folder(out), ignore_errors=True)
    return Store(out)


def prepare_part(
    sources: _PathLike | Sequence[_PathLike],
    out: _PathLike,
    shard: tuple[int, int],
    *,
    workers: int | None = None,
    charset: Charset | None = None,
    **how: Any,
) -> Path:
    """Reads one part of sources, for `prepare` to join; a part that is there is made anew.

    Arguments are those of `prepare`, and `shard`: (I, N), from 1. Returns the part's folder.

    Raises:
        HccrError: There is no such part; what `prepare` raises too.
    """
    index, count = shard
    if not 1 <= index <= count:
        raise HccrError(f"--shard is I/N, I from 1 to N, not {index}/{count}")
    part = parts_folder(Path(os.path.abspath(out))) / f"{index}-of-{count}"
    shutil.rmtree(part, ignore_errors=True)
    with _discovered(sources, part, True, charset, **how) as (folder, discovery):
        calls = _calls(discovery, folder, charset)
        named = zip(piece_names(len(calls), discovery, charset), calls, strict=True)
        kept = [(size, partial(keep_piece, folder / name, call)) for name, (size, call) in named]
        _made(kept[index - 1 :: count], workers, True)
        replace_directory(folder, part)
    return part


@contextlib.contextmanager
def _discovered(
    sources: _PathLike | Sequence[_PathLike],
    out: Path,
    overwrite: bool,
    charset: Charset | None,
    photographs: bool = False,
    labels: _PathLike | None = None,
) -> Iterator[tuple[Path, Discovery]]:
    """Yields an empty folder near `out`, held by this process, and what sources hold."""
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    paths = [Path(os.path.abspath(source)) for source in sources]
    if not paths:
        raise HccrError("no source given")
    if len(set(paths)) != len(paths):
        raise HccrError("a source is given twice")
    _check_replaceable(out, overwrite, paths)
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
                of_path = None if labels is None else Labels(labels, charset or ())
                discovery = Discovery(work, photographs, charset, of_path)
                names = [path.name for path in paths]
                for path in paths:
                    # Sources of one name are told apart by where they are.
                    parent = f"{path.parent.as_posix().lstrip('/')}/"
                    discovery.add(path, parent if names.count(path.name) > 1 else "")
                yield work / "store", discovery
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


def _tell_missing_validation(manifest: dict[str, Any]) -> None:
    """Logs how a validation split is had where one was wanted and there's none."""
    counts, split = manifest["counts"], manifest["split"]
    if not (split["validation_fraction"] and counts["train"]) or counts["validation"]:
        return
    mode = split["mode"] if split["validation_mode"] == "auto" else split["validation_mode"]
    logger.warning(
        "This store has no validation images: %s.",
        f"of {manifest['writers']['num_writers']} writers none is left for it. --validation-split "
        "shuffle takes images of those who train, and more writers' files are better"
        if mode == "writer"
        else f"{split['validation_fraction']:g} of the few that its classes have is none. "
        "--validation-fraction takes a larger share",
    )


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


def _calls(discovery: Discovery, folder: Path, charset: Charset | None) -> list[_Call]:
    """Lists what is to be done: sources' checksums, then chunks into shards."""
    chunks = [
        (chunk.num_bytes, partial(_read_chunk, chunk, folder, number, charset))
        for number, chunk in enumerate(discovery.chunks)
    ]
    paths = [source["path"] for source in discovery.sources if "path" in source]
    return [*((0, partial(sha256_file, path)) for path in paths), *chunks]


def _made(calls: Sequence[_Call], workers: int | None, progress: bool) -> list[Any]:
    """Makes calls in several processes; returns their results."""
    sizes = [size for size, _ in calls]
    if workers is None:
        workers = 1 if sum(sizes) < _SMALL else num_cores()
    with progress_bar("reading", sum(sizes), progress) as advance:
        functions = [call for _, call in calls]
        return _run(functions, min(workers, len(calls)), lambda i, *_: advance(sizes[i]))


def _read_chunk(chunk: Chunk, folder: Path, number: int, charset: Charset | None) -> Shard:
    with contextlib.closing(ShardWriter(folder, number, charset)) as writer:
        for record in chunk.records():
            writer.add(record)
        return writer.finish()


def _run(calls: list[Callable[[], Any]], workers: int, done: Callable[..., None]) -> list[Any]:
    """Returns the results of calls, made in several processes, of which this is one.

    `done` is called with the number of each, and perhaps its future.
    """
    if workers <= 1:
        results = []
        for i, call in enumerate(calls):
            results.append(call())
            done(i)
        return results
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers - 1, context, initializer=_begin_worker)
    try:
        with _without_main():
            # The others begin at the end: this one need not wait until they have started.
            futures = [pool.submit(call) for call in reversed(calls)][::-1]
        for i, future in enumerate(futures):
            future.add_done_callback(partial(done, i))
        # What can be cancelled was not begun.
        pairs = zip(calls, futures, strict=True)
        return [call() if future.cancel() else future.result() for call, future in pairs]
    except BrokenProcessPool:
        raise ChildProcessError(
            "a reading process ended without a word (often the system ends it when memory runs "
            "out; fewer --workers take less)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    ignore_signals()
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
