"""Import mujoco, robosuite and OpenGL; each failure becomes one line with its remedy."""

import importlib.metadata
import logging
import os
import sys

from sim import SimError

MUJOCO, ROBOSUITE = "3.6.0", "1.5.2"
INSTALL = f"pip install mujoco=={MUJOCO} robosuite=={ROBOSUITE} pynput==1.6.8 h5py"
GL_REMEDY = {  # MUJOCO_GL -> what to do where it does not work
    "egl": "run `apt-get install -y libegl1 libgl1` (or libosmesa6, with MUJOCO_GL=osmesa)",
    "osmesa": "run `apt-get install -y libosmesa6 libgl1`, or unset MUJOCO_GL to use EGL",
    "glx": "set DISPLAY, or unset MUJOCO_GL to use EGL",
}


def choose_gl():
    """Set MUJOCO_GL to EGL on Linux, which needs no display, unless it names another known one; return it."""
    if sys.platform == "linux" and os.environ.get("MUJOCO_GL") not in GL_REMEDY:
        os.environ["MUJOCO_GL"] = "egl"  # robosuite does the same, but only after mujoco has read it
    return os.environ.get("MUJOCO_GL", "the system's own")


def gl_error(cause):
    """The SimError for an OpenGL context that could not be made."""
    gl, why = choose_gl(), str(cause) or type(cause).__name__
    remedy = "unset it" if "environment variable" in why else GL_REMEDY.get(gl, "install OpenGL")
    return SimError(f"no offscreen OpenGL ({gl}): {why.strip().rstrip('.')}; {remedy}")


def check_version(version):
    """SimError unless this version of mujoco works with our robosuite, which needs 3.3 to 3.9."""
    if not (3, 3) <= tuple(int(part) for part in version.split(".")[:2]) < (3, 10):
        raise SimError(f"mujoco {version} does not work with robosuite {ROBOSUITE}: run `pip install mujoco=={MUJOCO}`")


def load():
    """Import and return (mujoco, robosuite); SimError names what is missing or wrong, and the remedy."""
    choose_gl()
    logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)
    try:
        check_version(importlib.metadata.version("mujoco"))
    except importlib.metadata.PackageNotFoundError:
        raise SimError(f"mujoco is not installed: run `{INSTALL}`") from None
    try:
        import mujoco
    except (ImportError, AttributeError, OSError, RuntimeError) as error:  # a missing library raises any of these
        raise gl_error(error) from error
    try:
        import robosuite
    except ImportError as error:  # a .so is a library that opencv needs
        remedy = "apt-get install -y libgl1 libglib2.0-0" if ".so" in str(error) else INSTALL
        raise SimError(f"robosuite cannot be imported: {error}; run `{remedy}`") from error
    if robosuite.__version__ != ROBOSUITE:
        raise SimError(f"robosuite {robosuite.__version__} is not supported: run `{INSTALL}`")
    return mujoco, robosuite


def make_renderer(model, size):
    """An offscreen mujoco.Renderer of square frames, `size` pixels a side, multisampled as MuJoCo does by default."""
    import mujoco

    model.vis.global_.offwidth = model.vis.global_.offheight = size
    try:
        return mujoco.Renderer(model, size, size)
    except (RuntimeError, AttributeError, ImportError, mujoco.FatalError) as error:
        sys.unraisablehook = lambda _: None  # a half-made renderer prints an error when it is collected
        raise gl_error(error) from error


def free(renderers):
    """Close and forget renderers."""
    while renderers:
        renderers.popitem()[1].close()
