"""The MP3 decoder of libsndfile, libmpg123, prints what it finds wrong with a file."""

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_decoding = 0
if platform.libc_ver()[0] == "glibc":
    _libc = ctypes.CDLL(None)
    _libc.fopen.restype = ctypes.c_void_p
    _nowhere = _libc.fopen(b"/dev/null", b"w")
    _stderr = ctypes.c_void_p.in_dll(_libc, "stderr")
    _terminal = _stderr.value
else:  # elsewhere the variable is another or may not be written: the messages are printed
    _stderr, _terminal, _nowhere = ctypes.c_void_p(), None, None


@contextmanager
def silenced() -> Iterator[None]:
    """
    Discards what C code prints by way of C's `stderr`, in all threads, until the last of them leaves. File descriptor 2 stays
    as it is: Python's own `sys.stderr`, C++'s `std::cerr` and processes that are started meanwhile print as before.
    """
    global _decoding
    with _lock:
        _decoding += 1
        _stderr.value = _nowhere
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if not _decoding:
                _stderr.value = _terminal
