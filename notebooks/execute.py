"""Run notebooks from top to bottom and keep their outputs: how those in the repository were made.

    ./run notebooks --execute                               # all, in their order, in place: about an hour
    SMALL=1 python notebooks/execute.py --out quick         # everything small, elsewhere: a minute or two each

The order matters: later notebooks use what earlier ones have trained.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

HERE = Path(__file__).resolve().parent


def execute(path, out):
    """Run a notebook in its own folder and write it with its outputs to `out`; nothing is written if a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    # Merged streams keep only the end of a progress bar. Without times, unchanged outputs stay unchanged in git.
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", coalesce_streams=True, record_timing=False,
                            resources={"metadata": {"path": str(path.parent)}})  # fmt: skip
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/jpeg", None)  # Pillow's second version of a PNG
            if "text" in output:
                output["text"] = output["text"].replace("\r", "")  # shell commands end their lines with it
        if "outputs" in cell:  # a progress bar that was removed leaves blanks
            cell.outputs = [output for output in cell.outputs if output.get("text", "something").strip()]
    part = Path(f"{out}.part")
    nbformat.write(notebook, part)
    os.replace(part, out)


def main():
    """Execute the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description="Run notebooks and keep their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="which (default: all)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write them (default: in place)")
    args = parser.parse_args()
    paths = [path.resolve() for path in args.notebooks] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        if path.suffix != ".ipynb" or not path.is_file():
            parser.error(f"{path}: no such notebook; there are {', '.join(p.name for p in HERE.glob('*.ipynb'))}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        started = time.monotonic()
        try:
            execute(path, (args.out or path.parent) / path.name)
        except (CellExecutionError, DeadKernelError) as error:
            sys.exit(f"{path}: {error}")
        print(f"{path.name}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
