"""Lists the NVIDIA GPUs that this process may use, by asking the driver (libcuda).

The driver applies CUDA_VISIBLE_DEVICES and a container's device list: hidden GPUs are absent here, and the others are
numbered from 0, as CUDA and ONNX Runtime number them. Asking makes no CUDA context, so it takes no GPU memory.
"""

import ctypes
from uuid import UUID


def visible() -> list[str]:
    """Each GPU's UUID by its number; empty if the driver is absent or shows none.

    The UUID is the same for every process, container and pod that sees the GPU; host names and numbers are not.
    """
    driver = _driver()
    count = ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_uuid(driver, index) for index in range(count.value)]


def name(index: int) -> str:
    """The product name of a GPU, such as "NVIDIA H200"; "unknown" if the driver does not say."""
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
    # Version 2 gives each instance of a partitioned GPU (MIG) a UUID of its own.
    found = (ctypes.c_ubyte * 16)()
    driver.cuDeviceGetUuid_v2(ctypes.byref(found), _device(driver, index))
    return str(UUID(bytes=bytes(found)))
