"""Runs the project's scripts as a user does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments, cwd=ROOT, check=True):
    """Runs `python ARGUMENTS` in `cwd`, with scripts named relative to the project, and returns what happened."""
    script = ROOT / str(arguments[0])
    command = [sys.executable, str(script), *map(str, arguments[1:])]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    return done
