"""The polynomial network on encrypted images, with a small rank and one epoch."""

import shutil
from pathlib import Path

import pytest

from tests.commands import ROOT, call, run

SCRIPT = "examples/encrypted_images.py"


def test_answers_on_ciphertexts_as_in_the_clear(tmp_path):
    pytest.importorskip("tenseal")
    done = run(SCRIPT, "--workdir=out", "--epochs=1", "--rank=2", "--images=100", cwd=tmp_path)
    assert "degree 2, levels: 3 (at most 1 for products of ciphertexts" in done.stdout
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.startswith("  ")}
    plain, encrypted = (float(rows[name][1]) for name in ("plain", "encrypted"))
    assert plain > 0.2 and abs(plain - encrypted) < 0.05
    difference = done.stdout.split("largest difference of the scores: ")[1].split(",")[0]
    assert float(difference) < 0.02
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "lock", "model.keras"]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--order=40", "at most 22 multiplications one after another. Received: --order=40, which takes 41. Pass"),
        ("--images=2000", "There are 1,000 test images. Received: --images=2000. Pass at most as many."),
    ],
)
def test_bad_settings(flag, words, tmp_path):
    done = call(SCRIPT, "--workdir=out", flag, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ") and words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_says_what_to_install(tmp_path):
    # Beside the script, where its imports are looked for first.
    shutil.copy(ROOT / SCRIPT, tmp_path)
    (tmp_path / "tenseal.py").write_text("raise ImportError('no module')")
    done = run(tmp_path / Path(SCRIPT).name, "--workdir=out", cwd=tmp_path, check=False)
    assert done.returncode == 1
    words = "encrypted with TenSEAL. Received: it is not installed (no module). Install it with: pip install 'pinets_tf"
    assert words in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
