"""The decoders of libsndfile print what they find wrong with a file: libmpg123 on stderr, that of ALAC on stdout."""

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
    _streams = [ctypes.c_void_p.in_dll(_libc, name) for name in ("stderr", "stdout")]
else:  # elsewhere the variables are others or may not be written: the messages are printed
    _streams, _nowhere = [], None
_terminal = [stream.value for stream in _streams]


@contextmanager
def silenced() -> Iterator[None]:
    """
    Discards what C code prints by way of C's `stderr` and `stdout`, in all threads, until the last of them leaves. The file
    descriptors stay as they are: Python's own streams, C++'s `std::cerr` and processes that are started meanwhile print as
    before.
    """
    global _decoding
    with _lock:
        _decoding += 1
        for stream in _streams:
            stream.value = _nowhere
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if not _decoding:
                for stream, terminal in zip(_streams, _terminal, strict=True):
                    stream.value = terminal
