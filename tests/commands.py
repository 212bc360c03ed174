"""Runs the project's scripts as a user does, in processes that start with TensorFlow imported."""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Importing TensorFlow takes longer than most of the scripts: one process does it, and those that run a script are
# forked from that one, which has computed nothing.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tensorflow", "keras"])


def _run_script(command, cwd, environment, streams):
    for descriptor, file in streams.items():
        os.dup2(os.open(file, os.O_WRONLY), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=environment["PYTHONIOENCODING"], errors="strict")
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).parent))
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()


def _run_forked(command, cwd, environment, kill_after):
    with (
        tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output,
        tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as errors,
    ):
        streams = {1: output.name, 2: errors.name}
        process = _FORKS.Process(target=_run_script, args=(command, str(cwd), environment, streams))
        process.start()
        process.join(kill_after)
        if process.is_alive():
            process.kill()
            process.join()
        return subprocess.CompletedProcess(command, process.exitcode, output.read(), errors.read())


def run(*arguments, cwd=ROOT, check=True, forked=True, kill_after=None, encoding="utf-8"):
    """Runs `python ARGUMENTS` in `cwd`, with scripts named relative to the project, and returns what happened.

    With `forked=False` the process is a new one, for scripts that do without TensorFlow. One that runs longer than
    `kill_after` seconds is killed. What it prints is in `encoding`, on a console that lacks all other letters.
    """
    command = [str(ROOT / str(arguments[0])), *map(str, arguments[1:])]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
    environment["PYTHONIOENCODING"] = encoding
    if not forked:
        command = [sys.executable, *command]
        done = subprocess.run(command, capture_output=True, encoding=encoding, cwd=cwd, env=environment, check=False)
    else:
        done = _run_forked(command, cwd, environment, kill_after)
    if check:
        assert done.returncode == 0, done.stderr
    return done
