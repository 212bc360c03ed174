"""Ends a training between two steps when it is asked to stop, so that nothing of it is lost."""

import signal
import threading
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Notes that a training is to end, by SIGTERM or Ctrl-C, while it is the context.

    The training looks at `received` between two steps, saves its state, and calls `leave`. A second signal of the same
    kind ends the program at once, as it does outside of the context. Signals reach the main thread alone; in others
    this does nothing.
    """

    def __init__(self):
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.received = number
        signal.signal(number, self._before[number])

    def leave(self, saved):
        """Ends the program with status 128 + the number of the signal: 143 after SIGTERM, 130 after Ctrl-C.

        Args:
            saved: what was saved, in words.

        Raises:
            SystemExit: always.
        """
        number = signal.Signals(self.received or signal.SIGTERM)
        print(f"interrupted by {number.name}: {saved} is saved, and the same command goes on from there", flush=True)
        raise SystemExit(128 + number)
