"""`--predict` of every script takes several files, and files with commas in their names."""

import pytest
from absl import flags

from pinets_tf import training
from pinets_tf.training.run_flags import listed_files


@pytest.fixture
def parsed():
    before = set(flags.FLAGS)
    training.define_run_flags()

    def parse(*arguments):
        flags.FLAGS([__name__, "--workdir=run", *arguments])
        return flags.FLAGS.predict

    yield parse
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def test_names_with_commas(parsed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a,b.png", "c.png", "b.png", "a, 1, 2.png"):
        (tmp_path / name).touch()
    assert parsed() == []
    assert parsed("--predict=a,b.png") == ["a,b.png"]
    assert parsed("--predict", "c.png,a,b.png,a, 1, 2.png,b.png") == ["c.png", "a,b.png", "a, 1, 2.png", "b.png"]
    assert parsed("--predict=~/a,b.png,none.png") == ["~/a,b.png", "none.png"]
    assert parsed("--predict=none.png, c.png") == ["none.png", "c.png"]
    # As a list is written into a file of flags.
    assert parsed('--predict="a,b.png",c.png') == ["a,b.png", "c.png"]
    written = flags.FLAGS["predict"].serialize()
    assert parsed(written) == ["a,b.png", "c.png"]


def test_listed_files():
    assert listed_files("") == [] and listed_files("a") == ["a"] and listed_files("a,b") == ["a", "b"]
