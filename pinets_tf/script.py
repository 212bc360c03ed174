"""What every script of the project does before anything else."""

import contextlib
import io
import os
import sys
from pathlib import Path

from absl import flags

# What the scripts need of Keras beside its backend, which each sets before it imports Keras.
SETTINGS = {"floatx": "float32", "image_data_format": "channels_last"}


def start():
    """Prepares this process for a script: printing never ends it, and Keras has the settings that the script needs.

    Settings that were others, as `keras.json` may say, are named on stderr.
    """
    keep_printing()
    import keras

    for name, value in SETTINGS.items():
        before = getattr(keras.config, name)()
        if before != value:
            getattr(keras.config, f"set_{name}")(value)
            print(f"Keras: this script sets {name} to {value}. Received: {before}, from keras.json.", file=sys.stderr)


def keep_printing():
    """Lets this process go on whatever becomes of what it prints.

    What a console cannot show is replaced. What a closed pipe or a full disk does not take is lost.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # Closed by the caller: the next file that is opened would get its number, and what is printed.
            os.open(os.devnull, os.O_RDWR)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        # Python has no stream for a descriptor that was closed.
        stream = getattr(sys, name) or os.fdopen(descriptor, "w", encoding="utf-8")
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _Output(stream))


def introduce(description, data):
    """Prints what a loaded set of data is, and the lines that its reader has noted of it."""
    print(description, *data.notes, sep="\n", flush=True)


class _Output:
    """A stream of text whose file may fail."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self):
        with contextlib.suppress(OSError):
            self._stream.flush()


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument):
        # Not as a `Path`, which changes gs://bucket, and ./name into a name.
        return os.path.expanduser(argument)


def define_path(name, default, help, **options):
    """Defines a flag of the calling script that is or may be a path: a `~` at its start is the home folder."""
    flags.disclaim_key_flags()
    flags.DEFINE(_PathParser(), name, default, help, serializer=flags.ArgumentSerializer(), **options)


def define_workdir(default, help):
    """Defines the flag `--workdir` of the calling script, which is required where `default` is `None`.

    Raises:
        IllegalFlagValueError: when the flags are parsed, if it names a file, or a place below one.
    """
    flags.disclaim_key_flags()
    define_path("workdir", default, help, required=default is None)
    flags.register_validator("workdir", _is_no_file)


def _is_no_file(workdir):
    for place in (Path(workdir), *Path(workdir).parents) if workdir else ():
        if os.path.exists(place) and not os.path.isdir(place):
            raise flags.IllegalFlagValueError(
                f"A workdir is a folder, made if it does not exist. Received: --workdir={workdir}, where {place} is a "
                "file. Pass another --workdir."
            )
    return True
