"""Run notebooks from top to bottom and keep their outputs: how those in the repository were made.

    ./run notebooks --execute                               # all, in their order, in place: about half an hour
    SMALL=1 python notebooks/execute.py --out quick         # everything small, elsewhere: a minute each

In their order, because later ones take up what earlier ones have trained.
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


def execute(path: Path, out: Path) -> float:
    """Run a notebook in its own folder and write it with its outputs to `out` -> seconds.

    CellExecutionError where a cell fails; then nothing is written.
    """
    notebook = nbformat.read(path, as_version=4)
    started = time.monotonic()
    # Merged streams: of a progress bar only its end is kept. No times: what has not changed should not look so.
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", coalesce_streams=True, record_timing=False,
                            resources={"metadata": {"path": str(path.parent)}})  # fmt: skip
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/jpeg", None)  # Pillow's second version of a PNG
            if "text" in output:
                output["text"] = output["text"].replace("\r", "")  # commands for the shell end their lines with it
        if "outputs" in cell:  # of a bar that was taken away blanks are left
            cell.outputs = [output for output in cell.outputs if output.get("text", "something").strip()]
    part = Path(f"{out}.part")
    nbformat.write(notebook, part)
    os.replace(part, out)
    return time.monotonic() - started


def main() -> None:
    """Execute the notebooks named, or all."""
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
        try:
            seconds = execute(path, (args.out or path.parent) / path.name)
        except (CellExecutionError, DeadKernelError) as error:
            sys.exit(f"{path}: {error}")
        print(f"{path.name}: {seconds / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
