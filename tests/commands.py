"""Runs the project's scripts as a user does: in this process, or in one that starts with TensorFlow imported."""

import atexit
import contextlib
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
import types
import warnings
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
        stream.reconfigure(encoding=environment.get("PYTHONIOENCODING", "utf-8"), errors="strict")
    try:
        if command[0] == "-c":
            sys.argv = ["-c", *command[2:]]
            exec(command[1], {"__name__": "__main__"})
        else:
            sys.argv = command
            sys.path.insert(0, str(Path(command[0]).parent))
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
        # The new process would import a script that this one is running.
        main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
        try:
            process.start()
        finally:
            sys.modules["__main__"] = main
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


_RUN = subprocess.run


def _run_in_a_fork(command, **options):
    """Stands for `subprocess.run`: a Python process of a script is forked from the one that has TensorFlow."""
    if command[0] != sys.executable:
        return _RUN(command, **options)
    inner = [str(word) for word in command[1:] if word not in ("-I", "-u")]
    return _run_forked(inner, options.get("cwd") or os.getcwd(), options.get("env") or dict(os.environ), None)


def call(*arguments, cwd=ROOT, check=True):
    """Does what `run` does in this process, which has imported and traced most of what a script needs.

    What belongs to a process is put back afterwards: flags, signal handlers, the working folder, the precision policy.
    Scripts that change more than that (`--deterministic`, a fault of the process) need `run`. The processes that a
    script starts are forked.
    """
    import keras
    from absl.flags import FLAGS

    command = [str(ROOT / str(arguments[0])), *map(str, arguments[1:])]
    before = set(FLAGS)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    form = warnings.formatwarning
    argv, path, policy, code = sys.argv, list(sys.path), keras.config.dtype_policy(), 0
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    try:
        sys.argv, sys.path = command, [str(Path(command[0]).parent), *path]
        streams = contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors)
        subprocess.run = _run_in_a_fork
        with contextlib.chdir(cwd), streams[0], streams[1], warnings.catch_warnings():
            # Not the one of pytest, which keeps them for itself.
            warnings.showwarning = lambda *warning: errors.write(warnings.formatwarning(*warning[:4]))
            warnings.simplefilter("default")
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        errors.write("" if isinstance(end.code, int | None) else f"{end.code}\n")
    except Exception:
        code = 1
        errors.write(traceback.format_exc())
    finally:
        subprocess.run = _RUN
        sys.argv, sys.path, warnings.formatwarning = argv, path, form
        keras.config.set_dtype_policy(policy)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name in set(FLAGS) - before:
            delattr(FLAGS, name)
    printed = [stream.buffer.getvalue().decode() for stream in (output, errors)]
    done = subprocess.CompletedProcess(command, code, *printed)
    if check:
        assert done.returncode == 0, done.stderr
    return done
