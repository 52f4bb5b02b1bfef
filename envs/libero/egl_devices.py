"""Which EGL devices can draw here. Asked in a process of its own: a driver that is half installed may crash or hang."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import subprocess
import sys

NOTHING = ""
"""Stands for a device that is listed and cannot draw."""

_SECONDS = 60.0
_DEVICES = 16
_PLATFORM_DEVICE, _VENDOR, _OPENGL_API, _NONE = 0x313F, 0x3053, 0x30A2, 0x3038
# Surface type: pbuffer; renderable type: OpenGL. What robosuite asks for, but for the depth of each channel.
_ATTRIBUTES = (0x3033, 0x0001, 0x3040, 0x0008, _NONE)


def egl_devices() -> tuple[str, ...]:
    """Return the vendor of each EGL device in EGL's order, or `NOTHING` for one that cannot draw; () without EGL."""
    if ctypes.util.find_library("EGL") is None:
        return ()
    command = [sys.executable, __file__]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return ()
    return tuple(json.loads(done.stdout)) if done.returncode == 0 else ()


def _list() -> list[str]:
    egl = ctypes.CDLL(ctypes.util.find_library("EGL"))
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    query, platform_display = (
        egl.eglGetProcAddress(function) for function in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT")
    )
    if not query or not platform_display:
        return []
    handles, count = (ctypes.c_void_p * _DEVICES)(), ctypes.c_int()
    pointer = ctypes.c_void_p
    if not ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointer, pointer)(query)(
        _DEVICES, handles, ctypes.byref(count)
    ):
        return []
    display_of = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(platform_display)
    return [_vendor(egl, display_of(_PLATFORM_DEVICE, handle, None)) for handle in handles[: count.value]]


def _vendor(egl: ctypes.CDLL, display: int | None) -> str:
    """Return the vendor of a display after making an OpenGL context on it current, or `NOTHING`."""
    pointer = ctypes.c_void_p
    egl.eglInitialize.argtypes = [pointer, pointer, pointer]
    if not display or not egl.eglInitialize(display, None, None):
        return NOTHING
    attributes = (ctypes.c_int * len(_ATTRIBUTES))(*_ATTRIBUTES)
    config, found = pointer(), ctypes.c_int()
    egl.eglChooseConfig.argtypes = [pointer, pointer, pointer, ctypes.c_int, pointer]
    egl.eglCreateContext.argtypes, egl.eglCreateContext.restype = [pointer] * 4, pointer
    egl.eglMakeCurrent.argtypes = [pointer] * 4
    egl.eglQueryString.argtypes, egl.eglQueryString.restype = [pointer, ctypes.c_int], ctypes.c_char_p
    egl.eglChooseConfig(display, attributes, ctypes.byref(config), 1, ctypes.byref(found))
    if not found.value or not egl.eglBindAPI(_OPENGL_API):
        return NOTHING
    context = egl.eglCreateContext(display, config, None, None)
    if not context or not egl.eglMakeCurrent(display, None, None, context):
        return NOTHING
    return (egl.eglQueryString(display, _VENDOR) or b"").decode(errors="replace") or "unnamed"


if __name__ == "__main__":
    json.dump(_list(), sys.stdout)
