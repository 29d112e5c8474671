"""The `@compiled` decorator: numba functions whose machine code is kept on disk, safely.

Numba notices a changed source file only for the file of the outermost function, so a change in a callee's module would run
stale code. Here the folder's name carries a digest over the source of every module of this package that uses `@compiled`,
so changed source is a new folder. The folder is the user's own (`NEVE_JIT_CACHE`, else the user's cache folder, else a
private folder among the temporary files); where none can be had, functions are compiled anew in every process.

Invariant: compiled functions take places and numbers only, never allocate from a number read off the wire, and check every
position against the end they were given before they read.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, config, types
from numba.extending import intrinsic

Params = ParamSpec("Params")
Result = TypeVar("Result")


def _candidates() -> list[Path]:
    chosen = os.environ.get("NEVE_JIT_CACHE")
    if chosen:
        return [Path(chosen)]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    user = os.getuid() if hasattr(os, "getuid") else 0
    return [Path(home) / "neve" / "jit", Path(tempfile.gettempdir()) / f"neve-jit-{user}"]


def _is_private(folder: Path) -> bool:
    """True where the folder is ours and nobody else can put code into it: what lies there is loaded and run."""
    facts = folder.lstat()
    ours = not hasattr(os, "getuid") or facts.st_uid == os.getuid()
    return stat.S_ISDIR(facts.st_mode) and ours and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _source_digest() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    digest.update(b"checked" if CHECKED else b"trusted")
    for source in sorted(Path(__file__).parent.glob("*.py")):
        body = source.read_bytes()
        if b"@compiled" in body:
            digest.update(source.name.encode() + b"\0" + body)
    return digest.hexdigest()[:20]


@cache
def cache_folder() -> Path | None:
    """The folder of compiled code, made if needed; None where no private, writable folder can be had."""
    digest = _source_digest()
    for candidate in _candidates():
        folder = candidate / digest
        try:
            candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(candidate):
                continue
            folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_private(folder):
                continue
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


def _forgive(kept: Any) -> None:
    """Make a function's kept code optional: what can't be read is compiled anew, what can't be written is not kept."""
    load, save = kept.load_overload, kept.save_overload

    def load_or_compile(signature: Any, context: Any) -> Any:
        try:
            return load(signature, context)
        except Exception:  # whatever damaged bytes make the unpickler do
            with suppress(OSError):
                kept.flush()
            return None

    def save_if_possible(signature: Any, data: Any) -> None:
        with suppress(OSError):
            save(signature, data)

    kept.load_overload = load_or_compile
    kept.save_overload = save_if_possible


def compiled(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """Compile with numba at the first call (nopython, without the interpreter lock), keeping the code on disk."""
    folder = cache_folder()
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    if folder is None:
        return cast("Callable[Params, Result]", numba.njit(**options)(function))
    before = vars(config)["CACHE_DIR"]
    vars(config)["CACHE_DIR"] = str(folder)
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
        _forgive(vars(dispatcher)["_cache"])
        return cast("Callable[Params, Result]", dispatcher)
    except RuntimeError:  # numba found no way to keep code for this function's file (a zipped package, say)
        return cast("Callable[Params, Result]", numba.njit(**options)(function))
    finally:
        vars(config)["CACHE_DIR"] = before


Place: TypeAlias = int | npt.NDArray[Any]
"""Where compiled code reads or writes: the address of a contiguous array; the flat array itself when places are checked."""

CHECKED = os.environ.get("NEVE_JIT_CHECKED") == "1"
"""Tests only: every read and write raises IndexError outside its array, instead of relying on the checks in the code."""


def place(array: npt.NDArray[Any]) -> Place:
    """The place of a C-contiguous array; the caller keeps the array alive for as long as the place is used.

    Compiled code is given addresses because numba counts references to arrays at each call, which costs more than all the
    work on a byte.
    """
    if not array.flags.c_contiguous:
        raise ValueError("compiled code needs a contiguous array")
    return array.reshape(-1) if CHECKED else int(array.ctypes.data)


def _load(width: int) -> Any:
    """Load `width` bits, little-endian and unaligned, at byte `at * width / 8`."""

    def typing(_context: Any, base: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(width).as_pointer())
            word = builder.load(builder.gep(pointer, [arguments[1]]), align=1)
            return (
                word
                if width == 64
                else builder.zext(word, ir.IntType(64))
                if width == 8
                else builder.sext(word, ir.IntType(64))
            )

        return types.int64(types.int64, types.int64), generate

    return intrinsic(typing)


def _store(width: int) -> Any:
    """Store the low `width` bits at byte `at * width / 8`."""

    def typing(_context: Any, base: Any, at: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.IntType(width)
            pointer = builder.inttoptr(arguments[0], kind.as_pointer())
            value = arguments[2] if width == 64 else builder.trunc(arguments[2], kind)
            builder.store(value, builder.gep(pointer, [arguments[1]]), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    return intrinsic(typing)


def _copy() -> Any:
    def typing(_context: Any, source: Any, at: Any, target: Any, to: Any, length: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, at, target, to, length = arguments
            pointer = ir.IntType(8).as_pointer()
            whence = builder.inttoptr(builder.add(source, at), pointer)
            whither = builder.inttoptr(builder.add(target, to), pointer)
            cgutils.raw_memcpy(builder, whither, whence, length, 1)  # type: ignore[no-untyped-call]
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), generate

    return intrinsic(typing)


def _checked_load() -> Any:
    def load(base: Any, at: int) -> int:
        if at < 0 or at >= len(base):
            raise IndexError("compiled code read outside its array")
        return np.int64(base[at])  # type: ignore[return-value]

    return compiled(load)


def _checked_store() -> Any:
    def store(base: Any, at: int, value: int) -> None:
        if at < 0 or at >= len(base):
            raise IndexError("compiled code wrote outside its array")
        base[at] = value

    return compiled(store)


def _checked_copy() -> Any:
    def copy(source: Any, at: int, target: Any, to: int, length: int) -> None:
        if at < 0 or to < 0 or length < 0 or at + length > len(source) or to + length > len(target):
            raise IndexError("compiled code copied outside its arrays")
        for ahead in range(length):
            target[to + ahead] = source[at + ahead]

    return compiled(copy)


byte_at: Callable[[Place, int], int] = _checked_load() if CHECKED else _load(8)
int_at: Callable[[Place, int], int] = _checked_load() if CHECKED else _load(32)
long_at: Callable[[Place, int], int] = _checked_load() if CHECKED else _load(64)
put_byte: Callable[[Place, int, int], None] = _checked_store() if CHECKED else _store(8)
put_int: Callable[[Place, int, int], None] = _checked_store() if CHECKED else _store(32)
put_long: Callable[[Place, int, int], None] = _checked_store() if CHECKED else _store(64)
copy_bytes: Callable[[Place, int, Place, int, int], None] = _checked_copy() if CHECKED else _copy()
