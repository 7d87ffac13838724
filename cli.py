"""What every command line here shares: one clear line and exit status 2 for a mistake, an interval for every rate,
files that are whole or not there.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from math import sqrt


class InputError(ValueError):
    """Something given from outside cannot be used; the message names the file, the field and the remedy in one
    line.
    """


@contextmanager
def replacing(path):
    """A path beside `path` to write to, moved into its place at the end: a kill leaves what was there."""
    part = path.with_name(f"part.{path.name}")
    yield part
    os.replace(part, path)


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


def whole(low, high=None):
    """An argparse type: a whole number of at least `low` and, where given, at most `high`."""

    def parse(text):
        if not text.lstrip("-").isdigit():
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
        value = int(text)
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(
                f"{value} is out of range: at least {low}" + (f", at most {high}" if high is not None else "")
            )
        return value

    return parse


def number(inside, limits):
    """An argparse type: a number for which inside(number) is true; `limits` says in words which those are."""

    def parse(text):
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not inside(value):
            raise argparse.ArgumentTypeError(f"{text} is out of range: {limits}")
        return value

    return parse


positive = number(lambda value: 0 < value < float("inf"), "a number above 0")
strength = number(lambda value: 0 <= value <= 3, "at least 0, at most 3")
share = number(lambda value: 0 <= value < 1, "at least 0, below 1")


def check_size(size):
    """InputError unless frames can have this many pixels per side."""
    if size % 16:
        raise InputError(f"--size: {size} is not a multiple of 16; try {size // 16 * 16 or 16}")


def choose_tasks(names, known):
    """The task names asked for, "all" spelled out, in order and once each; InputError for one that does not exist."""
    if names == ["all"]:
        return list(known)
    for name in names:
        if name not in known:
            raise InputError(f"--tasks: unknown task {name!r}; the tasks are {', '.join(known)}")
    return list(dict.fromkeys(names))


def command(main, *errors):
    """Call main() as a command: mistakes of the kinds in `errors` become one line on stderr and exit status 2."""
    try:
        main()
    except errors as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def wilson(successes, n):
    """95 % Wilson score interval of a success rate (Wilson 1927): two numbers in [0, 1]."""
    z = 1.96
    p, extra = successes / n, z * z / n
    middle = (p + extra / 2) / (1 + extra)
    half = z * sqrt(p * (1 - p) / n + extra / (4 * n)) / (1 + extra)
    return max(min(middle - half, p), 0.0), min(max(middle + half, p), 1.0)  # rounding may not put p outside


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
