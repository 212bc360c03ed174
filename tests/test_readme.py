"""Every command and every program of the README runs."""

import re
import subprocess

import pytest

from tests.commands import ROOT, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.splitlines()]
# Small enough for a test: the command itself is run word for word before these.
REDUCED = {
    "examples/cifar_linear.py": ["--epochs=1", "--width=2", "--stage_blocks=1", "--xla=off", "--batch_size=500"],
    "examples/cifar_sweep.py": ["--epochs=1", "--width=2", "--xla=off", "--batch_size=500"],
    "examples/speech_commands.py": ["--epochs=1", "--width=2", "--networks=prodpoly"],
    "examples/imagenet.py": ["--epochs=2", "--width=2", "--networks=resnet18", "--size=32", "--resize=36"],
    "examples/fashion_mnist_gan.py": ["--steps=2", "--width=0.03", "--discriminator_width=2", "--xla=off"],
    "examples/mesh_autoencoder.py": ["--epochs=1", "--networks=spiral", "--widths=2,2,2,2"],
}


def test_programs():
    for program in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(compile(program, "README.md", "exec"), {})


@pytest.mark.long
def test_scripts_in_their_order(tmp_path):
    for command in COMMANDS:
        if command.startswith("python "):
            _, script, *arguments = command.split()
            # Of the sweep, which hands its last flags on, one run instead of six.
            arguments = [argument.replace("1,2", "1") for argument in arguments]
            noreference = ["--noreference", "--blocks=1"] if script == "examples/cifar_sweep.py" else []
            run(script, *noreference, *arguments, *REDUCED.get(script, []), cwd=tmp_path)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_commands(command):
    # What they run is tested by itself: the suite, and the demo in tests/examples.
    planned = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr
    assert {"make demo": "examples/demo.py", "make test": "pytest"}[command] in planned.stdout


def test_every_fault_has_its_tests():
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_no_command_is_left_out():
    assert all(command.startswith(("make ", "python ", "pip install '.[all]'")) for command in COMMANDS)
    extras = re.findall(r"^    \"(\w+)\": \[", (ROOT / "setup.py").read_text(encoding="utf-8"), re.M)
    assert {"data", "audio", "mesh", "serving", "tflite"} <= set(extras)
