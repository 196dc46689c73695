"""Lists the NVIDIA GPUs that this process may use, by asking the driver (libcuda).

The driver applies CUDA_VISIBLE_DEVICES and a container's device list: hidden GPUs are absent here, and the others are
numbered from 0, as CUDA and ONNX Runtime number them. Asking makes no CUDA context, so it takes no GPU memory.
Source of the numbers below: CUDA Driver API, cuda.h.
"""

import ctypes
from uuid import UUID

_DRIVER = "libcuda.so.1"

#: CUdevice_attribute: the compute capability's major and minor number.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


def visible() -> list[str]:
    """Each GPU's UUID by its number; empty if the driver is absent or shows none.

    The UUID is the same for every process, container and pod that sees the GPU; host names and numbers are not.
    """
    driver = _driver()
    count = ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_uuid(driver, index) for index in range(count.value)]


def why_none() -> str:
    """Why no GPU is visible, and what helps."""
    try:
        status = ctypes.CDLL(_DRIVER).cuInit(0)
    except OSError:
        return (
            f"no NVIDIA driver ({_DRIVER}) found: install driver 580 or newer, or in a container start it with the "
            "NVIDIA Container Toolkit"
        )
    if status:
        return f"the NVIDIA driver does not start (cuInit returns {status}): see what nvidia-smi reports"
    return "the NVIDIA driver shows no GPU: check CUDA_VISIBLE_DEVICES and the GPUs given to the container"


def name(index: int) -> str:
    """The product name of a GPU, such as "NVIDIA H200"; "unknown" if the driver does not say."""
    driver = _driver()
    text = ctypes.create_string_buffer(256)
    if driver is None or driver.cuDeviceGetName(text, len(text), _device(driver, index)):
        return "unknown"
    return text.value.decode()


def supported_cuda() -> tuple[int, int]:
    """The newest CUDA version that the driver supports, major and minor; (0, 0) without a driver."""
    driver = _driver()
    version = ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)):
        return 0, 0
    return version.value // 1000, version.value % 1000 // 10


def compute_capability(index: int) -> tuple[int, int]:
    """The generation of a GPU, such as (9, 0) for Hopper; (0, 0) if the driver does not say."""
    driver = _driver()
    major, minor = ctypes.c_int(), ctypes.c_int()
    if driver is not None:
        device = _device(driver, index)
        driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    return major.value, minor.value


def _driver() -> ctypes.CDLL | None:
    try:
        driver = ctypes.CDLL(_DRIVER)
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
