"""The NVIDIA GPUs that this process may use, as the driver (libcuda) shows them. Knows no ONNX Runtime and no Redis.

CUDA_VISIBLE_DEVICES and a container's devices are the driver's business: what they hide is not here, and the rest is
numbered from 0, as CUDA and ONNX Runtime number it. Asking makes no context, so it takes none of a GPU's memory.
"""

import ctypes
from uuid import UUID


def visible() -> list[str]:
    """Each GPU's UUID by its number; empty where the driver is absent or shows none.

    The UUID is the same for every process, container and pod that sees the GPU; host names and numbers are not.
    """
    driver = _driver()
    count = ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_uuid(driver, index) for index in range(count.value)]


def name(index: int) -> str:
    """What the maker calls it."""
    driver = _driver()
    text = ctypes.create_string_buffer(256)
    if driver is None or driver.cuDeviceGetName(text, len(text), _device(driver, index)):
        return "unknown"
    return text.value.decode()


def _driver() -> ctypes.CDLL | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return None if driver.cuInit(0) else driver


def _device(driver: ctypes.CDLL, index: int) -> ctypes.c_int:
    device = ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)
    return device


def _uuid(driver: ctypes.CDLL, index: int) -> str:
    # Version 2 tells the instances of a partitioned GPU (MIG) apart.
    found = (ctypes.c_ubyte * 16)()
    driver.cuDeviceGetUuid_v2(ctypes.byref(found), _device(driver, index))
    return str(UUID(bytes=bytes(found)))
