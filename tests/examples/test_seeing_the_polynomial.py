"""The gallery of a polynomial network, with a small rank and one epoch at each order."""

from tests.commands import call, run

SCRIPT = "examples/seeing_the_polynomial.py"
PICTURES = ("contributions.png", "interactions.png", "truncation.png", "growth.png")


def test_draws_the_gallery(tmp_path):
    done = run(SCRIPT, "--workdir=out", "--order=2", "--rank=2", "--epochs=1", cwd=tmp_path)
    gallery = (tmp_path / "out" / "gallery.md").read_text(encoding="utf-8")
    for picture in PICTURES:
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
        assert f"]({picture})\n" in gallery
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*PICTURES, "gallery.md", "config.json", "lock"}

    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("  0")]
    assert [" ".join(row[:-4]) for row in rows] == ["0", "0 to 1", "0 to 2"]
    accuracy, same, farthest, of_grown = rows[-1][-4:]
    assert same == "100.0%" and float(farthest) < 1e-4
    assert float(rows[0][-4]) < 0.2 < float(accuracy) and float(of_grown) > 0.2
    assert "truncate(network, 2) equals the whole network" in done.stdout
    assert "truncate(network, 2) equals the whole network" in gallery
    difference = done.stdout.split("truncate(network, 1): largest difference ")[1].split()[0]
    assert float(difference) < 1e-4
    changed = gallery.split("no class score of a test image changed by more than ")[1].split()[0]
    assert float(changed.rstrip(".")) < 1e-4


def test_bad_setting(tmp_path):
    done = call(SCRIPT, "--workdir=out", "--order=1", cwd=tmp_path, check=False)
    assert done.returncode == 1
    words = (
        "error: Pairs of pixels are terms of order 2, and pictures tell few orders apart. Received: --order=1. Pass an"
    )
    assert done.stderr.splitlines()[-1].startswith(words)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
