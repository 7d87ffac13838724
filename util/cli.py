"""What all commands share: one line and exit status 2 for a mistake, an interval for each rate, worker processes."""

import argparse
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path

from util.files import InputError

PARENT = "VIDEO_POLICY_PARENT"  # environment variable: the process with which a command is to end


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """-h with the defaults, and with examples as they were typed."""

    def _get_help_string(self, action):
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse that answers a wrong flag with one line, and shows defaults and examples in -h."""

    def __init__(self, **options):
        super().__init__(formatter_class=HelpFormatter, allow_abbrev=False, **options)
        self.register("type", Path, lambda text: Path(os.path.expanduser(text)))  # bash leaves ~ in --run=~/mine

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (-h lists the flags)\n")


def in_range(kind, low, high=inf):
    """An argparse type: a number of a `kind`, int or float, from `low` to `high`."""

    def parse(text):
        if not low <= (value := kind(text)) <= high:  # argparse names the flag of a ValueError
            limits = f"{low} to {high}" if high < inf else f"at least {low}"
            raise argparse.ArgumentTypeError(f"{text} is out of range: {limits}")
        return value

    parse.__name__ = "whole number" if kind is int else "number"
    return parse


int_range, float_range = partial(in_range, int), partial(in_range, float)


def choose_tasks(names, known):
    """The task names in order, once each, "all" spelled out; InputError for an unknown one."""
    names = list(known) if names == ["all"] else list(dict.fromkeys(names))
    if not names:
        raise InputError("--tasks: name them; args.json of the run has none, or is missing or damaged")
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"--tasks: unknown task {unknown[0]!r}; the tasks are {', '.join(known)}")
    return names


def command(main):
    """Call main() as a command: what a user can mend is one line on stderr and exit status 2; Ctrl-C ends with 130."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # a shell ignores Ctrl-C for what runs in the background
            signal.signal(number, _stop)
    if parent := os.environ.pop(PARENT, ""):
        threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    try:
        return main()
    except OSError as error:
        what = f"{error.filename or 'input or output'}: {error.strerror or error}"
        message = f"{what}; check the name, its permissions and the space on the disk"
    except (InputError, BrokenProcessPool) as error:
        message = str(error)
    except (MemoryError, RuntimeError) as error:  # torch raises a RuntimeError where memory is short
        if not (isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error)):
            raise
        message = "not enough memory; use fewer --demos or --workers, a smaller --preset or image_size"
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _stop(number, _):
    """The first signal unwinds the program, so that files are closed and workers end; a second ends it at once."""
    exit_at_next_signal()
    raise SystemExit(128 + number)


def exit_at_next_signal():
    """From now on Ctrl-C and SIGTERM end the process at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os._exit(128 + number))


def _end_with(parent):
    """Wait until the process that started this one has ended, also by kill -9, and end by SIGTERM."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def wilson(successes, n):
    """95 % Wilson score interval of a success rate: two numbers in [0, 1]."""
    from scipy.stats import binomtest  # here, so that -h does not wait for the import

    interval = binomtest(int(successes), int(n)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@contextmanager
def worker_processes(count, start, *arguments):
    """A pool of `count` fresh processes, each of which first calls start(*arguments). They ignore Ctrl-C and end with
    the process that started them; jobs that have not begun when the block is left are dropped.
    """
    spawn = multiprocessing.get_context("spawn")  # a forked OpenGL context does not work
    pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_begin, initargs=(start, arguments))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(start, arguments):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process().pid,), daemon=True).start()
    start(*arguments)
