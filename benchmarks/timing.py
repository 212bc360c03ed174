"""Timing of functions side by side, and the table that every benchmark prints."""

import gc
import os
import statistics
import time
from dataclasses import dataclass

import keras
import tensorflow as tf

# Before the benchmark itself is at work.
_LOAD_BEFORE = os.getloadavg()[0]


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios of all rounds, with the least and the greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios):
        return cls(statistics.median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True)
class Claim:
    """What we say about a ratio: `Claim("<=", 1.1)`."""

    relation: str
    bound: float

    def verdict(self, ratio):
        # As printed, so that a line never contradicts itself.
        median, bound = round(ratio.median, 2), self.bound
        return "meets" if (median <= bound if self.relation == "<=" else median >= bound) else "misses"

    def __str__(self):
        return f"{self.relation} {self.bound:.2f}"


class Timings:
    """Seconds per call of several functions, one number for each round."""

    def __init__(self, seconds):
        self.seconds = seconds

    def median(self, name):
        return statistics.median(self.seconds[name])

    def ratio(self, name, to, scale=1.0):
        """Returns `scale` times the time of `name` over that of `to`, taken round by round."""
        return Ratio.of([scale * a / b for a, b in zip(self.seconds[name], self.seconds[to])])


def interleave(functions, rounds, slice_seconds=0.05, pause_seconds=0.0):
    """Times functions in turn, A B A B ..., so that whatever slows the machine down meets all of them alike.

    Args:
        functions: a dict from name to a function without arguments that returns when its work is done.
        rounds: how often each is timed, after a warm-up.
        slice_seconds: a function is called as often in a round as takes about this long, at least once.
        pause_seconds: idle time before each timing, in which the threads of the function before come to rest.

    Returns:
        `Timings`.
    """
    for function in functions.values():
        function()  # Traces, compiles, and fills the caches.
    calls = {name: max(1, round(slice_seconds / _seconds(function, 1))) for name, function in functions.items()}
    seconds = {name: [] for name in functions}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, function in functions.items():
                time.sleep(pause_seconds)
                seconds[name].append(_seconds(function, calls[name]))
    finally:
        gc.enable()
    return Timings(seconds)


def _seconds(function, calls):
    started = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - started) / calls


def machine(*more):
    """Returns a line about the machine, how busy it was before, and the libraries."""
    parts = [
        f"{os.cpu_count()} cores (load {_LOAD_BEFORE:.1f} before)",
        f"TensorFlow {tf.__version__}",
        f"Keras {keras.__version__}",
        *more,
    ]
    return ", ".join(parts)


def print_table(rows, note):
    """Prints rows of (what, `Ratio`, `Claim`) with a verdict each, and a note below."""
    lines = [("what", "ratio (min-max)", "claim", "")]
    for what, ratio, claim in rows:
        spread = f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
        lines.append((what, spread, str(claim), claim.verdict(ratio)))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    print(note)
