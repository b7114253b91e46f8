"""Run inside a job's place: whether CUDA's driver library sees exactly the GPU that it should, and can use its memory.

`python3 -I -S -B - UUID < cuda_check.py`; prints one line. Status 0: it works, or there is no CUDA library to try it
with (the line says so); 1: it does not. Only the standard library; on Python 3.6 and later.
"""

import ctypes
import sys

_LIBRARY = "libcuda.so.1"
_SIZE = 64 << 20
_PATTERN = 0xA5


class Failed(Exception):
    pass


def main(uuid):  # type: (str) -> int
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError:
        print("no CUDA library here: memory was not tried")
        return 0
    try:
        print(check(cuda, uuid))
    except Failed as error:
        print(error)
        return 1
    return 0


def check(cuda, uuid):  # type: (ctypes.CDLL, str) -> str
    """What was tried, for people. Raises Failed."""
    count, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    if count.value != 1:
        raise Failed(f"CUDA sees {count.value} devices, not 1")
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    seen = _uuid_of(cuda, device)
    if uuid.startswith("GPU-") and seen != uuid[4:].lower():
        raise Failed(f"CUDA sees GPU-{seen}")
    _call(cuda, "cuCtxCreate_v2", ctypes.byref(context), 0, device)
    try:
        _try_memory(cuda)
    finally:
        cuda.cuCtxDestroy_v2(context)
    return f"{_SIZE >> 20} MiB of memory written and read"


def _try_memory(cuda):  # type: (ctypes.CDLL) -> None
    pointer, back = ctypes.c_uint64(), (ctypes.c_ubyte * 4096)()
    _call(cuda, "cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(_SIZE))
    _call(cuda, "cuMemsetD8_v2", pointer, ctypes.c_ubyte(_PATTERN), ctypes.c_size_t(_SIZE))
    last = ctypes.c_uint64(pointer.value + _SIZE - len(back))
    _call(cuda, "cuMemcpyDtoH_v2", ctypes.byref(back), last, ctypes.c_size_t(len(back)))
    _call(cuda, "cuMemFree_v2", pointer)
    if set(back) != {_PATTERN}:
        raise Failed("the memory does not hold what was written")


def _uuid_of(cuda, device):  # type: (ctypes.CDLL, ctypes.c_int) -> str
    raw = (ctypes.c_ubyte * 16)()
    _call(cuda, "cuDeviceGetUuid", ctypes.byref(raw), device)
    text = bytes(raw).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _call(cuda, name, *arguments):  # type: (ctypes.CDLL, str, object) -> None
    status = getattr(cuda, name)(*arguments)
    if status != 0:
        words = ctypes.c_char_p()
        cuda.cuGetErrorString(status, ctypes.byref(words))
        told = words.value.decode() if words.value else f"error {status}"
        raise Failed(f"{name}: {told}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
