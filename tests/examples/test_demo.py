"""The demo from data to a served answer, with one short epoch, and again."""

import pytest

from tests.commands import call, run


@pytest.mark.long
def test_demo(tmp_path):
    command = ["examples/demo.py", "--workdir=out", "--epochs=1", "--width=2"]
    first = call(*command, cwd=tmp_path)
    heading = next(line for line in first.stdout.splitlines() if "parameters" in line)
    assert heading.split() == ["network", "parameters", "degree", "accuracy", "training", "images/s"]
    rows = {line.split()[0]: line.split() for line in first.stdout.splitlines() if line.startswith("  ")}
    assert [rows[name][2] for name in ("polynomial", "linear", "ReLU")] == ["8", "1", "none"]
    # So narrow a network has no kernel that is worth eight bits.
    assert first.stdout.count("largest difference to Keras") == 3 and first.stdout.count("the answer is") == 3
    for picture in ("predictions.png", "curves.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_again(tmp_path):
    command = ["examples/demo.py", "--workdir=out", "--epochs=1", "--width=2"]
    run(*command, cwd=tmp_path)
    # What was lost, or not finished, is made again from the checkpoints; the rest is reused.
    lost = [tmp_path / "out" / "linear" / "model.keras", tmp_path / "out" / "polynomial.tflite"]
    for file in lost:
        file.unlink()
    again = run(*command, cwd=tmp_path)
    assert all(file.exists() for file in lost)
    assert again.stdout.count("reusing out/") == 3
    assert [path.name for path in (tmp_path / "out" / "served" / "polynomial").iterdir()] == ["1"]
