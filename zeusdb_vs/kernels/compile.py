"""The one decorator of all compiled code: flags, cache, CPU features.

Every kernel is a module-level function decorated with `kernel`. It releases the GIL, never raises, and is cached on
disk in a folder named for the exact sources, so that an edited callee in another file, which Numba's own stamp does
not see, can never leave a stale caller behind.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import llvmlite
import numba
from llvmlite import binding
from numba.core import caching, config
from numba.core.compiler_lock import global_compiler_lock

F = TypeVar("F", bound=Callable[..., Any])

logger = logging.getLogger("zeusdb_vs")

JIT_DISABLED = bool(config.DISABLE_JIT)
"""With NUMBA_DISABLE_JIT=1 kernels run as plain Python: slow, for tests and for stepping through."""

# Reordering of sums is what lets LLVM vectorise a reduction (10-30x). Never nnan or ninf: NaN checks must keep working.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


def _host_features() -> frozenset[str]:
    if config.CPU_FEATURES is not None:
        return frozenset(f[1:] for f in str(config.CPU_FEATURES).split(",") if f.startswith("+"))
    if config.CPU_NAME == "generic":
        return frozenset()
    return frozenset(name for name, on in binding.get_host_cpu_features().items() if on)


_SWITCHED_OFF = frozenset(
    f for f in os.environ.get("ZEUSDB_VS_DISABLE_CPU_FEATURES", "").lower().split(",") if f
)
_FEATURES = _host_features() - _SWITCHED_OFF

HAS_VNNI512 = {"avx512vnni", "avx512bw", "avx512f"} <= _FEATURES and not JIT_DISABLED
"""Whether integer dot products use the 512-bit `vpdpbusd` instruction; off, plain loops of the same results serve."""
HAS_AVX2 = "avx2" in _FEATURES and not JIT_DISABLED
"""Where there is no VNNI: whether byte products and differences use 256-bit `vpmaddubsw` and `vpsadbw`."""
HAS_SAD512 = {"avx512bw", "avx512f"} <= _FEATURES and not JIT_DISABLED
"""Whether byte-wise L1 distances use the 512-bit `vpsadbw` instruction."""


def _sources_digest() -> str:
    """Digest of all that decides the machine code, apart from the CPU, which Numba's own key holds."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    digest.update(
        repr(
            (
                numba.__version__,
                llvmlite.__version__,
                sys.version_info[:3],
                sorted(_FEATURES),
                bool(config.BOUNDSCHECK),
            )
        ).encode()
    )
    return digest.hexdigest()[:16]


def _is_private(folder: Path) -> bool:
    """Whether only this user can put files there: cached machine code is executed as it is found."""
    if not hasattr(os, "getuid"):
        return True
    info = folder.stat()
    return info.st_uid == os.getuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _user_cache_folder() -> Path:
    if sys.platform == "win32":
        return (
            Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "zeusdb-vs" / "Cache"
        )
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "zeusdb-vs"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zeusdb-vs"


def _find_cache_folder() -> Path | None:
    """First usable of ZEUSDB_VS_CACHE_DIR, Numba's own setting, the user's cache folder; None when none is."""
    name = f"kernels-{_sources_digest()}"
    candidates: list[Path] = []
    if explicit := os.environ.get("ZEUSDB_VS_CACHE_DIR"):
        candidates.append(Path(explicit))
    if config.CACHE_DIR:
        candidates.append(Path(config.CACHE_DIR) / "zeusdb-vs")
    try:
        candidates.append(_user_cache_folder())
    except RuntimeError:  # no home directory
        pass
    for base in candidates:
        folder = base / name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not _is_private(folder):
                logger.warning("kernel cache %s can be written by others and is not used", folder)
                continue
            if os.access(folder, os.W_OK):
                tempfile.TemporaryFile(dir=folder).close()
            return folder
        except OSError:
            continue
    return None


CACHE_FOLDER = None if JIT_DISABLED else _find_cache_folder()
_announced = False


def _announce_compile() -> None:
    global _announced
    if not _announced:
        _announced = True
        place = f"cached in {CACHE_FOLDER}" if CACHE_FOLDER else "not cached: no writable cache folder"
        logger.info("compiling kernels for this machine, once (some 20 seconds of CPU time; %s)", place)


if hasattr(os, "register_at_fork"):
    # A thread that compiles or loads kernels holds this lock. A child forked meanwhile would wait for it for ever.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Tells Numba where a kernel's compiled form lies."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._lineno = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(CACHE_FOLDER)

    def get_source_stamp(self) -> str:
        return "in-folder-name"

    def get_disambiguator(self) -> str:
        return str(self._lineno)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:  # noqa: ARG003
        return cls(py_func)


class _CacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_Locator]  # noqa: RUF012


class _KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's cache with our folder, where an unreadable or unwritable entry means compiling and nothing worse."""

    _impl_class = _CacheImpl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:  # a torn or foreign file may raise anything while being read
            logger.debug("kernel cache entry of %s unreadable (%s): compiling", self._name, error)
            found = None
        if found is None:
            _announce_compile()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:  # the index is torn or foreign: begin another
                self.flush()
                super().save_overload(sig, data)
        except OSError as error:
            logger.debug("kernel %s not cached: %s", self._name, error)


def kernel(function: F) -> F:
    """Compile `function` on first call: nogil, NumPy error model, reassociating float sums, cached on disk."""
    compiled = numba.njit(nogil=True, error_model="numpy", fastmath=FASTMATH, boundscheck=None)(function)
    if CACHE_FOLDER is not None:
        compiled._cache = _KernelCache(compiled.py_func)
    return compiled  # type: ignore[no-any-return]


def inline_kernel(function: F) -> F:
    """Like `kernel`, and inlined into its callers by LLVM: for the small pieces of a hot loop."""
    compiled = numba.njit(
        nogil=True,
        error_model="numpy",
        fastmath=FASTMATH,
        boundscheck=None,
        forceinline=True,
        no_cpython_wrapper=True,
    )(function)
    if CACHE_FOLDER is not None:
        compiled._cache = _KernelCache(compiled.py_func)
    return compiled  # type: ignore[no-any-return]
