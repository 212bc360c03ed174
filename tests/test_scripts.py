"""What all scripts do alike: the settings of Keras, what is printed, and flags that are paths."""

import argparse
import contextlib
import os
import runpy
import subprocess
import sys

import keras
import pytest
from absl import flags

from pinets_tf import script
from tests.commands import ROOT


def scripts(folder):
    return [str(file.relative_to(ROOT)) for file in sorted((ROOT / folder).glob("*.py"))]


TRAINERS, EXPORTS = scripts("examples"), scripts("export")
SCRIPTS = [*TRAINERS, *EXPORTS]


class Reached(Exception):
    pass


def reach(*arguments):
    raise Reached


@contextlib.contextmanager
def loaded(file, name, monkeypatch):
    """Runs a script in this process under a name, and yields its globals and the names of its flags."""
    before = set(flags.FLAGS)
    monkeypatch.syspath_prepend((ROOT / file).parent)
    monkeypatch.delitem(sys.modules, "fashion_mnist_gan", raising=False)
    try:
        values = runpy.run_path(str(ROOT / file), run_name=name)
        yield values, set(flags.FLAGS) - before
    finally:
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)


def python(*arguments, folder=None, **options):
    """Runs Python in a process of its own, with the modules of a folder in the place of others."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **options.pop("env", {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, encoding="utf-8", errors="replace", **options
    )


def test_scripts_import_keras_on_tensorflow(tmp_path):
    # As where a backend is chosen that is not installed: Keras reads this variable before keras.json.
    (tmp_path / "keras.py").write_text('import os\nraise SystemExit(os.environ["KERAS_BACKEND"])\n', encoding="utf-8")
    program = """
import os, runpy, sys
for file in sys.argv[1:]:
    os.environ["KERAS_BACKEND"] = "none"
    sys.path.insert(0, os.path.dirname(file))
    try:
        runpy.run_path(file)
    except SystemExit as ended:
        print(file, ended.code)
"""
    done = python("-c", program, *SCRIPTS, folder=tmp_path, cwd=ROOT)
    assert done.stdout.splitlines() == [f"{file} tensorflow" for file in SCRIPTS], done.stderr


def test_the_launcher_needs_no_keras(tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError", encoding="utf-8")
    assert python("-m", "pinets_tf.launch", "--help", folder=tmp_path).stdout.startswith("usage: python -m pinets_tf")


@pytest.mark.parametrize("file", SCRIPTS)
def test_scripts_start_alike(file, monkeypatch):
    monkeypatch.setattr(script, "start", reach)
    with pytest.raises(Reached), loaded(file, "__main__", monkeypatch):
        pass


@pytest.mark.parametrize(
    "name, value", [("floatx", "float64"), ("floatx", "float16"), ("image_data_format", "channels_first")]
)
def test_settings_of_keras(name, value, monkeypatch, capsys):
    monkeypatch.setattr(script, "keep_printing", lambda: None)
    before = {setting: getattr(keras.config, setting)() for setting in script.SETTINGS}
    try:
        getattr(keras.config, f"set_{name}")(value)
        script.start()
        assert {setting: getattr(keras.config, setting)() for setting in script.SETTINGS} == script.SETTINGS
        said = f"Keras: this script sets {name} to {script.SETTINGS[name]}. Received: {value}, from keras.json.\n"
        assert capsys.readouterr() == ("", said)
        script.start()
        assert capsys.readouterr() == ("", "")
    finally:
        for setting, old in before.items():
            getattr(keras.config, f"set_{setting}")(old)


# Loads that file alone, which is quick; prints all that a run may print, and then writes a file.
PRINTS = """
import logging, os, runpy, sys, warnings
runpy.run_path(sys.argv[1])["keep_printing"]()
odd = "\\xb1 \\u732b " + os.fsdecode(b"\\xe9")
print(odd, flush=True)
print(odd, file=sys.stderr)
warnings.warn(odd)
logging.warning(odd)
print("x" * 100_000, flush=True)
sys.stdout.write(f"{sys.stdout.isatty()}")
with open(sys.argv[2], "w", encoding="utf-8") as file:
    # Not what is printed.
    print("result", file=file)
raise SystemExit(odd if len(sys.argv) > 3 else 0)
"""
C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    "options",
    [
        {"env": {"PYTHONIOENCODING": "cp1252"}},
        {"env": {"PYTHONIOENCODING": "ascii:strict"}},
        {"env": C},
        {"env": {"PYTHONUNBUFFERED": "1", **C}},
        {"stdout": closed_pipe, "stderr": closed_pipe},
        {"stdout": lambda: os.open("/dev/full", os.O_WRONLY), "stderr": lambda: os.open("/dev/full", os.O_WRONLY)},
        {"preexec_fn": lambda: [os.close(descriptor) for descriptor in range(3)]},
    ],
    ids=["cp1252", "ascii", "C", "unbuffered", "closed pipe", "full disk", "closed"],
)
def test_printing_ends_nothing(options, tmp_path):
    opened = {name: make() for name, make in options.items() if name.startswith("std")}
    file = tmp_path / "result"
    for ended in ([], ["in words"]):
        done = python("-c", PRINTS, script.__file__, file, *ended, **{**options, **opened})
        assert done.returncode == len(ended), done.stderr
        assert file.read_text(encoding="utf-8") == "result\n"
        file.unlink()
        assert "Traceback" not in (done.stderr or "") and "Exception ignored" not in (done.stderr or "")
        if "env" in options:
            assert "\\u732b \\udce9" in done.stdout and "\\u732b \\udce9" in done.stderr
    for descriptor in opened.values():
        os.close(descriptor)


# The flags whose values are words or lists of words or numbers, and no paths.
WORDS = {"normalize", "mapping_normalize", "milestones", "stage_blocks", "networks", "widths", "factors"}
WORDS |= {"test_sequences", "orders", "blocks", "seeds", "name", "licence", "signature", "model", "label", "address"}
# Files are found by the readers, behind NAME= in c_api.py, and by the script to which the launcher hands its flags on.
FOUND_LATER = {"predict", "input", "flags"}


def is_path(take):
    """Returns whether a flag that reads its values with `take` has the home folder in the place of `~`, or `None`."""
    try:
        value = take("~/x")
    except (ValueError, argparse.ArgumentTypeError):
        return None  # Numbers and choices.
    assert value in ("~/x", ["~/x"]) or str(value) == "/home/someone/x"
    return str(value) == "/home/someone/x"


@pytest.mark.parametrize("file", TRAINERS)
def test_a_tilde_in_flags(file, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    with loaded(file, "script", monkeypatch) as (_, names):
        found = {name: is_path(flags.FLAGS[name].parser.parse) for name in names}
    assert found["workdir"]
    assert {name for name, path in found.items() if path is False} <= WORDS | FOUND_LATER


@pytest.mark.parametrize("file", [*EXPORTS, *scripts("export/serving"), "pinets_tf/launch.py"])
def test_a_tilde_in_arguments(file, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    parsers = []
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda *taken: parsers.append(taken[0]) or reach())
    with loaded(file, "script", monkeypatch) as (values, _), pytest.raises(Reached):
        values["main"]([])
    taken = [action for action in parsers[0]._actions if action.nargs != 0 and not action.choices]
    found = {action.dest: is_path(action.type or str) for action in taken}
    assert any(found.values())
    assert {name for name, path in found.items() if path is False} <= WORDS | FOUND_LATER | {"hosts"}
