"""The guarded imports: mujoco, robosuite and OpenGL, each failure told in one line with its remedy."""

import importlib
import importlib.metadata
import logging
import os
import sys

from sim import SimError

MUJOCO, ROBOSUITE = "3.6.0", "1.5.2"
MUJOCO_FROM, MUJOCO_BELOW = (3, 3), (3, 10)  # robosuite 1.5.2 breaks outside of these
INSTALL = f"pip install mujoco=={MUJOCO} robosuite=={ROBOSUITE} pynput==1.6.8 h5py"
GL_PACKAGES = {"egl": "libegl1 libgl1", "osmesa": "libosmesa6 libgl1", "glfw": "libglfw3 libgl1"}


def choose_gl() -> str:
    """Set MUJOCO_GL where nobody has (EGL on Linux: it needs no display) and return the choice."""
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")
    return os.environ.get("MUJOCO_GL", "the system's own")


def gl_error(cause: Exception) -> SimError:
    """The one line for an OpenGL context that could not be made."""
    gl = choose_gl()
    packages = GL_PACKAGES.get(gl, "libegl1 libgl1")
    return SimError(
        f"no offscreen OpenGL ({gl}): {_one_line(cause)}; run `apt-get install -y {packages}`, "
        "or set MUJOCO_GL=osmesa after `apt-get install -y libosmesa6`"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def check_version(version: str) -> None:
    """Raise SimError unless this mujoco works with our robosuite."""
    major, minor = (int(part) for part in version.split(".")[:2])
    if not MUJOCO_FROM <= (major, minor) < MUJOCO_BELOW:
        raise SimError(
            f"mujoco {version} does not work with robosuite {ROBOSUITE}: run `pip install mujoco=={MUJOCO}`"
        )


def load():
    """Import and return (mujoco, robosuite); SimError names what is missing or wrong and how to mend it."""
    choose_gl()
    logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)
    try:
        check_version(importlib.metadata.version("mujoco"))
    except importlib.metadata.PackageNotFoundError:
        raise SimError(f"mujoco is not installed: run `{INSTALL}`") from None
    try:
        mujoco = importlib.import_module("mujoco")
    except (ImportError, AttributeError, OSError, RuntimeError) as error:  # a missing library shows as any
        raise gl_error(error) from error
    try:
        robosuite = importlib.import_module("robosuite")
    except ImportError as error:
        if ".so" in str(error):  # a shared library that opencv wants
            remedy = "apt-get install -y libgl1 libglib2.0-0"
        else:
            remedy = INSTALL
        raise SimError(f"robosuite cannot be imported: {_one_line(error)}; run `{remedy}`") from error
    if robosuite.__version__ != ROBOSUITE:
        raise SimError(f"robosuite {robosuite.__version__} is untried: run `pip install robosuite=={ROBOSUITE}`")
    return mujoco, robosuite
