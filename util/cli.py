"""What every command line here shares: one clear line and exit status 2 for a mistake, an interval for every rate."""

import argparse
import errno
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

from util.files import InputError

PARENT = "VIDEO_POLICY_PARENT"  # in the environment of a command: the number of the process that it is to end with
REMEDIES = {  # of what the operating system says
    errno.ENOSPC: "free some space",
    errno.EACCES: "choose a place that can be read and written",
    errno.EPERM: "choose a place that can be read and written",
    errno.EROFS: "choose a place that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a file is in the way; choose another name or move it",
    errno.EEXIST: "something is in the way; choose another name or move it",
    errno.EISDIR: "a folder is in the way; choose another name or move it",
    errno.ENOENT: "check the name",
}


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """-h with the defaults, and with examples as they were typed."""

    def _get_help_string(self, action):
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse that answers a wrong flag with one line instead of the whole usage, and shows defaults in -h."""

    def __init__(self, **options):
        super().__init__(formatter_class=HelpFormatter, allow_abbrev=False, **options)

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (-h lists the flags)\n")


def number(kind, inside, limits):
    """An argparse type: an int or float (`kind`) for which inside(value) is true; `limits` says in words which."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' * (kind is int)}number") from None
        if not inside(value):
            raise argparse.ArgumentTypeError(f"{text} is out of range: {limits}")
        return value

    return parse


def in_range(kind, low, high=inf):
    """An argparse type: an int or float (`kind`) from `low` to `high`, both included."""
    limits = f"at least {low}" + (f", at most {high}" if high < inf else "")
    return number(kind, lambda value: low <= value <= high, limits)


int_range, float_range = partial(in_range, int), partial(in_range, float)
positive_float = number(float, lambda value: 0 < value < inf, "a number above 0")
unit_interval = number(float, lambda value: 0 <= value < 1, "at least 0, below 1")
frame_size = number(int, lambda value: value in range(16, 1025, 16), "a multiple of 16, from 16 to 1024")


def choose_tasks(names, known):
    """The task names asked for, "all" spelled out, in order and once each; InputError for one that does not exist."""
    if names == ["all"]:
        return list(known)
    for name in names:
        if name not in known:
            raise InputError(f"--tasks: unknown task {name!r}; the tasks are {', '.join(known)}")
    return list(dict.fromkeys(names))


def command(main):
    """Call main() as a command: InputError, a worker that was killed, what the operating system refuses and too little
    memory become one line on stderr and exit status 2; Ctrl-C ends it with 130 and SIGTERM with 143.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell has it for what runs in the background
            signal.signal(number, _stop)
    if parent := os.environ.pop(PARENT, ""):
        threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    try:
        main()
        return
    except OSError as error:
        remedy = REMEDIES.get(error.errno, "")
        message = f"{error.filename or 'input or output'}: {error.strerror or error}" + (f"; {remedy}" * bool(remedy))
    except (InputError, BrokenProcessPool) as error:
        message = str(error)
    except (MemoryError, RuntimeError) as error:  # torch has no class of its own for what a processor cannot hold
        if not (isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error)):
            raise
        message = "not enough memory; take fewer demos (--demos), a smaller --preset or --image-size, fewer --workers"
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _stop(number, _):
    """The first signal unwinds the program, so that files are closed and workers end; another ends it at once."""
    exit_at_next_signal()
    raise SystemExit(128 + number)


def exit_at_next_signal():
    """From now on Ctrl-C and SIGTERM end the process at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os._exit(128 + number))


def _end_with(parent):
    """Wait for the end of the process that started this one, also by kill -9, and stop as if by SIGTERM."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def wilson(successes, n):
    """95 % Wilson score interval of a success rate: two numbers in [0, 1]."""
    from scipy.stats import binomtest  # here, since importing it takes a second that -h should not wait for

    interval = binomtest(int(successes), int(n)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@contextmanager
def worker_processes(count, start, *arguments):
    """A pool of `count` fresh processes, each of which first calls start(*arguments).

    Fresh, not forked: a forked copy of an OpenGL context does not work. They leave Ctrl-C to the process that started
    them, and end when that one does, even if it was killed; jobs not begun when the block is left are dropped.
    """
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_begin, initargs=(start, arguments))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(start, arguments):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start(*arguments)


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
