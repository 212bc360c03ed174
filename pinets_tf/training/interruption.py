"""Ends a training between two steps when it is asked to stop, so that nothing of it is lost."""

import signal
import threading
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Notes that a training is to end, by SIGTERM or Ctrl-C, while it is the context.

    The training looks at `due` between two steps, saves its state, and calls `leave`. A second signal of the same kind
    ends the program at once, as it does outside of the context. One that is ignored outside of it is ignored inside.
    Signals reach the main thread alone; in others this does nothing.

    Args:
        together: whether several processes train together, which must end after the same step: it is due where they
            have agreed, of which one or more have received a signal.
    """

    def __init__(self, together=False):
        self.received: int | None = None
        self.together = together
        self._agreed = False
        self._before: dict[int, Any] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            # What is ignored at the start stays so, such as Ctrl-C of a program in the background of a script.
            heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.received = number
        signal.signal(number, self._before[number])

    @property
    def due(self):
        return self._agreed if self.together else self.received is not None

    def agree(self):
        """Notes that all processes know of the signal that one of them has received."""
        self.received = self.received or signal.SIGTERM
        self._agreed = True

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
