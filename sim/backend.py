"""Import mujoco, robosuite and OpenGL; each failure becomes one line with its remedy."""

import atexit
import ctypes
import importlib
import logging
import os
import sys
import weakref

from util.files import InputError

MUJOCO, ROBOSUITE = "3.6.0", "1.5.2"
INSTALL = f"pip install mujoco=={MUJOCO} robosuite=={ROBOSUITE} pynput==1.6.8 h5py"
GL_REMEDY = {  # MUJOCO_GL -> what to do where it does not work
    "egl": "run `apt-get install -y libegl1 libgl1 libglib2.0-0` (or libosmesa6, with MUJOCO_GL=osmesa)",
    "osmesa": "run `apt-get install -y libosmesa6 libgl1`, or unset MUJOCO_GL to use EGL",
    "glx": "set DISPLAY, or unset MUJOCO_GL to use EGL",
}
REMEDIES = {  # words of a cause -> what to do
    "No module named": f"run `{INSTALL}`",
    "MUJOCO_EGL_DEVICE_ID": "unset it, or give the number of a GPU in CUDA_VISIBLE_DEVICES",
    "literal for int()": "unset MUJOCO_EGL_DEVICE_ID, or give a number",
    "PYOPENGL_PLATFORM": "unset it",
    "EGL device display": "run `apt-get install -y libegl1 libgl1`, or import sim.env before OpenGL",
    "cannot cache function": "set NUMBA_CACHE_DIR to a folder that can be written",
}


def choose_gl():
    """Set MUJOCO_GL to EGL on Linux, which needs no display, unless it names another known one; return it."""
    if sys.platform == "linux" and os.environ.get("MUJOCO_GL") not in GL_REMEDY:
        os.environ["MUJOCO_GL"] = "egl"  # robosuite does the same, but only after mujoco has read it
    return os.environ.get("MUJOCO_GL", "the system's own")


def failure(cause, remedy=""):
    """The InputError for what was raised. remedy: what to do where REMEDIES does not know that; default: for OpenGL."""
    gl, why = choose_gl(), str(cause).strip().rstrip(".") or type(cause).__name__
    remedy = remedy or GL_REMEDY.get(gl, "install OpenGL")
    remedy = next((known for words, known in REMEDIES.items() if words in why), remedy)
    return InputError(f"the simulator cannot run here (OpenGL: {gl}): {why}; {remedy}")


def check_version(version):
    """InputError unless this version of mujoco works with our robosuite, which needs 3.3 to 3.9."""
    if not (3, 3) <= tuple(int(part) for part in version.split(".")[:2]) < (3, 10):
        raise InputError(f"mujoco {version} does not fit robosuite {ROBOSUITE}: run `pip install mujoco=={MUJOCO}`")


def load():
    """Import and return (mujoco, robosuite); InputError names what is missing or wrong, and the remedy."""
    gl = choose_gl()
    logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)
    try:
        import mujoco

        if sys.platform == "linux":  # where a caller has imported mujoco before, it has chosen something else
            opengl = importlib.import_module(f"mujoco.{'glfw' if gl == 'glx' else gl}")
            sys.modules[mujoco.Renderer.__module__].gl_context.GLContext = opengl.GLContext
    except Exception as error:  # a missing library raises one of many
        raise failure(error) from error
    check_version(mujoco.__version__)
    try:
        import robosuite
    except Exception as error:  # a .so is a library that opencv needs
        raise failure(error, "" if ".so" in str(error) else f"run `{INSTALL}`") from error
    if robosuite.__version__ != ROBOSUITE:
        raise InputError(f"robosuite {robosuite.__version__} is not supported: run `{INSTALL}`")
    return mujoco, robosuite


def make_renderer(model, size):
    """An offscreen mujoco.Renderer of square frames, `size` pixels a side, multisampled as MuJoCo does by default."""
    import mujoco

    model.vis.global_.offwidth = model.vis.global_.offheight = size
    try:
        renderer = mujoco.Renderer(model, size, size)
    except Exception as error:
        sys.unraisablehook = lambda _: None  # a half-made renderer prints an error when it is collected
        raise failure(error) from error
    if sys.platform == "linux":  # the C library would keep most of what a renderer frees, hundreds of MB
        weakref.finalize(renderer, ctypes.CDLL(None).malloc_trim, 0)
    kept = weakref.ref(renderer)  # a hook that holds the renderer would keep it, and its model, until the exit
    atexit.register(lambda: kept() and kept().close())  # before OpenGL's own hook, which is older
    return renderer
