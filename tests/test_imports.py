"""The layers of the house, its budgets, and what a plain machine may lack."""

import ast
import re
import subprocess
import sys

from common import ROOT

CORE = {"data", "model", "training", "util", "videopolicy"}
ALLOWED = {  # who may import what of ours
    "util/files.py": set(),
    "util": {"util"},
    "util/figures.py": {"util", "videopolicy"},
    "model": {"model", "util"},
    "videopolicy.py": {"model", "util"},
    "data": {"data", "util"},
    "sim": {"data", "sim", "util"},
    "training": CORE,
    "train.py": CORE,
    "evaluate.py": {"model", "sim", "training", "util", "videopolicy"},
    "ablations": CORE | {"ablations", "evaluate", "sim", "train"},
    "ablate.py": {"ablations", "training", "util"},
    "tools": CORE | {"ablations", "evaluate", "sim", "tools", "train"},
}
TOP = {"videopolicy.py": 320, "train.py": 340, "evaluate.py": 240, "ablate.py": 110}  # lines at most
PACKAGES = {"ablations", "data", "model", "sim", "tools", "training", "util"}
OURS = {name.removesuffix(".py") for name in TOP} | PACKAGES


def imports(source):
    """Top-level names of every module that some code imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def files():
    """The Python files of the repository but for those of tests, notebooks and results: {path from the root: text}."""
    places = [*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in places}


def lines(text):
    return text.count("\n")


def test_layers():
    """Catches an import that turns the layers upside down, torch in the simulator, and a place that no layer has."""
    for path, source in files().items():
        place = path if path in ALLOWED else path.split("/")[0]
        used = imports(source)
        assert used & OURS <= ALLOWED[place], f"{path}: {used & OURS - ALLOWED[place]}"
        assert "torch" not in used or place not in ("data", "sim"), path


def test_training_needs_no_simulator():
    """Catches a GPU box without mujoco, robosuite or OpenGL on which train.py cannot even show its flags."""
    block = "import sys\nfor name in ('mujoco', 'robosuite', 'OpenGL', 'cv2'): sys.modules[name] = None\n"
    run = "import train\ntry: train.main(['-h'])\nexcept SystemExit as end: sys.exit(end.code)"
    done = subprocess.run([sys.executable, "-c", block + run], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--head-steps" in done.stdout, done.stderr


def test_the_top_level_is_the_four_files_to_open():
    """Catches a fifth thing to open, or a package that the other tests here do not look at."""
    assert {path.name for path in ROOT.glob("*.py")} == set(TOP)
    assert {path.parent.name for path in ROOT.glob("*/*.py")} <= PACKAGES | {"tests", "notebooks", "results"}


def test_every_file_and_function_is_short():
    """Catches a file or a function that grew beyond what one reads at a time; the training loop is one on purpose."""
    long = []
    for path, text in files().items():
        if lines(text) > TOP.get(path, 340):
            long.append(f"{path}: {lines(text)} lines, {TOP.get(path, 340)} at most")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name != "training_loop":
                length = node.end_lineno - node.lineno + 1
                long += [f"{path}: {node.name} has {length} lines, 60 at most"] * (length > 60)
    assert not long, "; ".join(long)


def test_the_whole_is_small():
    """Catches growth: what is promised is small enough to read."""
    code, tests = sum(map(lines, files().values())), sum(lines(p.read_text()) for p in (ROOT / "tests").glob("*.py"))
    readme = (ROOT / "README.md").read_text()
    prose = len(re.sub(r"```.*?```|^\|[^\n]*$", "", readme, flags=re.S | re.M).split())  # neither code nor tables
    assert (code <= 6700, tests <= 3300, prose <= 900) == (True, True, True), f"{code=}, {tests=}, {prose=}"
