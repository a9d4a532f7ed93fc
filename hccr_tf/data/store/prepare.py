"""Making a store: plan, read beside each other, go on after an interruption, put together."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hccr_tf.charset import Charset
from hccr_tf.data.sources.catalogue import check_counts
from hccr_tf.data.sources.discovery import Plan, make_plan
from hccr_tf.data.store import splits
from hccr_tf.data.store.format import FORMAT, MANIFEST, image_file
from hccr_tf.data.store.parts import PARTS, STORE, Part
from hccr_tf.data.store.store import Store
from hccr_tf.data.store.workers import default_workers, read_job, run_jobs
from hccr_tf.data.store.writer import SplitRule, assemble, clear
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import exclusive_lock, read_json, replace_directory, sync, write_json
from hccr_tf.utils.progress import progress_bar

_SMALL = 16 << 20  # Bytes that are read sooner than processes start.


def prepare(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
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

    Everything unreadable is listed and counted in the store, and reading goes on. The store
    appears under its name only when it is complete. Until then its parts are in a hidden folder
    beside it; a call that was interrupted, even killed, goes on from there when it is made again.
    Memory grows with the number of samples (about 100 bytes each), not with their size.

    Args:
        sources: Folders, archives and files: `.gnt`, images by class, Chinese MNIST, stores, and
            folders and zip archives of all those.
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
    paths = [Path(os.path.abspath(source)) for source in sources]
    if not paths:
        raise HccrError("no source given")
    if len(set(paths)) != len(paths):
        raise HccrError("a source is given twice")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    _check_replaceable(out, overwrite, paths)
    if split not in splits.MODES:
        raise HccrError(f"unknown split mode {split!r}; there are {', '.join(splits.MODES)}")
    rule = SplitRule(split, seed, test_fraction, validation_fraction, validation_split)
    rule.check()
    work = out.parent / f".{out.name[:60]}.partial"
    work.mkdir(parents=True, exist_ok=True)
    busy = f"another process prepares {out}; wait until it has ended"
    try:
        with exclusive_lock(work / "lock", busy) as lock:
            try:
                _check_replaceable(out, overwrite, paths)  # It may have come while waiting.
                manifest = _read_into(
                    work, paths, rule, charset, photographs, workers, progress, lock
                )
                write_json(work / STORE / MANIFEST, manifest)
                replace_directory(work / STORE, out)
            except BaseException:
                if not any(work.glob(f"{PARTS}/*.json")):
                    shutil.rmtree(work, ignore_errors=True)
                raise
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(
                errno.ENOSPC,
                f"the disk is full ({error.strerror}); {out} was not written and nothing there was "
                "changed. Free some space, and the same command goes on where this one stopped; or "
                f"delete {work} and choose another --out",
            ) from error
        raise
    return Store(out)


def _read_into(
    work: Path,
    paths: list[Path],
    rule: SplitRule,
    charset: Charset | None,
    photographs: bool,
    workers: int | None,
    progress: bool,
    lock: int | None,
) -> dict[str, Any]:
    """Reads sources into the work folder, going on where an earlier call stopped."""
    for temporary in (*work.glob(f"{STORE}/*.tmp"), *work.glob(f"{PARTS}/*.tmp")):
        temporary.unlink()
    plan = make_plan(paths, _prefixes(paths), work)
    state_path = work / "state.json"
    fingerprint = f"{FORMAT} {plan.fingerprint} {charset.sha256 if charset else None}"
    if photographs:
        fingerprint += " photographs"
        for container in plan.containers:
            for hints in container.hints.values():
                hints["photographs"] = True
    state = read_json(state_path) if state_path.exists() else {}
    if state.get("fingerprint") != fingerprint:
        if state:
            print(
                f"{work} holds parts of other sources, or sources have changed: reading anew.",
                file=sys.stderr,
            )
        clear(work)
        state = {"fingerprint": fingerprint, "hashes": {}}
        write_json(state_path, state)
    if workers is None:
        workers = 1 if plan.num_bytes < _SMALL else default_workers()
    workers = max(1, min(workers, plan.num_tasks))

    with progress_bar("reading", plan.num_bytes, progress) as advance:
        there = {n for n in range(plan.num_tasks) if Part.open(work, n) is not None}
        if there:
            print(f"going on with {len(there)} of {plan.num_tasks} parts", file=sys.stderr)
            # A machine that crashed may have kept names and lost contents.
            checks = (
                {
                    "kind": "check",
                    "folder": str(work),
                    "number": task.number,
                    "num_bytes": task.num_bytes,
                }
                for task in plan.tasks()
                if task.number in there
            )
            for answer in run_jobs(checks, workers, advance, lock):
                if not answer["sound"]:
                    there.discard(answer["number"])
        # Finished parts go to the disk while others are read, so that the end need not wait.
        with ThreadPoolExecutor(1, thread_name_prefix="hccr-sync") as syncing:
            jobs = _jobs(plan, work, charset, state, there)
            for answer in run_jobs(jobs, workers, advance, lock):
                if answer["kind"] == "hash":
                    state["hashes"][answer["path"]] = answer["sha256"]
                    write_json(state_path, state)
                else:
                    path = work / STORE / image_file(answer["number"])
                    syncing.submit(sync, path)
    manifest = assemble(work, plan.num_tasks, plan.quarantined, rule, charset)
    for source in plan.sources:
        if (path := source.pop("path", None)) is not None:
            source["sha256"] = state["hashes"][path]
    manifest["sources"] = plan.sources
    manifest["photographs"] = photographs
    checks = []
    if charset is None:
        writers = manifest["writers"]["num_writers"]
        found = Charset.from_text(manifest["charset"]["characters"])
        checks = check_counts(plan.known, writers, manifest["num_samples"], found)
    manifest["known_sets"] = {
        "sets": [list(part) for part in plan.known],
        "checks": [asdict(check) for check in checks],
    }
    for number in range(plan.num_tasks):
        if image_file(number) not in manifest["files"]:
            (work / STORE / image_file(number)).unlink()
    return manifest


def _jobs(
    plan: Plan, work: Path, charset: Charset | None, state: dict[str, Any], there: set[int]
) -> Iterator[dict[str, Any]]:
    for source in plan.sources:
        path = source.get("path")
        if path is not None and path not in state["hashes"]:
            yield {"kind": "hash", "path": path}
    for task in plan.tasks():
        if task.number not in there:
            yield read_job(plan.containers[task.container], task, work, charset)


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
