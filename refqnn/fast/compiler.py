"""``njit`` for kernels: compiled once where a folder keeps them, anew where none can.

Numba keeps compiled code beside the source, or in the folder of the user
(``NUMBA_CACHE_DIR`` names another). Where it can write to neither, as in a package that
root owns on a machine without a home, kernels compile in every process; where the disk
is full they run all the same.

Threads of OpenMP spin while they wait for each other, which on a machine that others
use, too, burns the time that the awaited thread lacks: measured on two cores under ten
processes, a training step took 6 times the CPU time, and 6 times as long, as with
threads that sleep. They sleep here unless OMP_WAIT_POLICY or GOMP_SPINCOUNT is set.

Memory that glibc gives back to the system is cleared again, page by page, when it is
next used; a step of training gives back and takes again all its arrays. Up to 256 MiB
of freed memory stay with the process unless a variable MALLOC_... or GLIBC_TUNABLES
says how glibc allocates.
"""

import ctypes
import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile


def load_sleeping_threads() -> None:
    """Load Numba's OpenMP, which reads how threads wait when it is loaded.

    The environment is left as it was: other libraries bring their own copy.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & {*os.environ}:
        return
    os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        with suppress(ImportError):  # Numba has another threading layer
            importlib.import_module("numba.np.ufunc.omppool")
    finally:
        del os.environ["OMP_WAIT_POLICY"]


#: numbers of glibc's malloc.h: freed memory is kept up to so many bytes, and arrays up
#: to so many bytes, the most that glibc takes, are cut from it
M_TRIM_THRESHOLD, KEPT_BYTES = -1, 2**28
M_MMAP_THRESHOLD, CUT_BYTES = -3, 2**25


def keep_freed_memory() -> None:
    """Let glibc use the memory of one step in the next; elsewhere, change nothing."""
    if sys.platform != "linux" or any(
        name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ
    ):
        return
    with suppress(AttributeError):  # a C library that is not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, CUT_BYTES)


load_sleeping_threads()
keep_freed_memory()


@cache
def kernels_digest() -> str:
    """Digest of all files of kernels: compiled code holds what it calls of others."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class PatientCache(FunctionCache):
    """A cache that leaves out what cannot be read or written, or is of other kernels.

    Numba's own cache looks at the file of a function alone, and would run code that
    was compiled from tiles that have changed since.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        stamp = self._impl.locator.get_source_stamp(), kernels_digest()
        self._cache_file = IndexDataCacheFile(  # type: ignore[no-untyped-call]
            self._cache_path, self._impl.filename_base, stamp
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load compiled code for a signature; None where no readable copy is kept."""
        with suppress(OSError, EOFError):
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code, where the disk takes it."""
        with suppress(OSError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function without Python objects when it is called first.

    ``options`` are those of ``numba.njit``. The plain function where compiling is
    disabled (NUMBA_DISABLE_JIT=1).
    """

    def compile_lazily(function: Callable[..., Any]) -> Any:
        kernel = numba.njit(**options)(function)
        if kernel is not function:
            with suppress(RuntimeError):  # no folder can be written
                kernel._cache = PatientCache(function)  # noqa: SLF001 - as numba's enable_caching
        return kernel

    return compile_lazily
