"""The layers of the house, and what a plain machine may lack."""

import ast
import subprocess
import sys

from common import ROOT

ALLOWED = {  # who may import what of ours
    "util/files.py": set(),
    "util/cli.py": {"util"},
    "util/figures.py": {"util", "videopolicy"},
    "model": {"model", "util"},
    "videopolicy.py": {"model", "util"},
    "data": {"data", "util"},
    "sim": {"data", "sim", "util"},
    "training": {"data", "model", "training", "util", "videopolicy"},
    "train.py": {"data", "model", "training", "util", "videopolicy"},
    "evaluate.py": {"model", "sim", "training", "util", "videopolicy"},
    "ablations": {"ablations", "data", "evaluate", "model", "sim", "train", "training", "util", "videopolicy"},
    "ablate.py": {"ablations", "training", "util"},
}
PACKAGES = {"ablations", "data", "model", "sim", "tools", "training", "util"}
OURS = {path.stem for path in ROOT.glob("*.py")} | PACKAGES


def imports(source):
    """Top-level names of every module that some code imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_layers():
    """Catches an import that turns the layers upside down, and torch in the simulator."""
    for place, allowed in ALLOWED.items():
        files = [ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py")
        for path in files:
            used = imports(path.read_text())
            assert used & OURS <= allowed, f"{path}: {used & OURS - allowed}"
            if place in ("data", "sim"):
                assert "torch" not in used, path


def test_training_needs_no_simulator():
    """Catches a GPU box without mujoco, robosuite or OpenGL on which train.py cannot even show its flags."""
    block = "import sys\nfor name in ('mujoco', 'robosuite', 'OpenGL', 'cv2'): sys.modules[name] = None\n"
    run = "import train\ntry: train.main(['-h'])\nexcept SystemExit as end: sys.exit(end.code)"
    done = subprocess.run([sys.executable, "-c", block + run], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--minutes" in done.stdout
