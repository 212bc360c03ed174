"""The page about decompositions of one's own does what it says."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "your_own_decomposition.md"


def test_the_page_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    exec("\n".join(blocks), {"__name__": "page"})
    assert "(Chebyshev)" in capsys.readouterr().out


def test_the_layers_of_this_folder_are_short():
    for name in ("chebyshev", "fibonacci"):
        lines = (PAGE.parent.parent / "tests" / "extension" / f"{name}.py").read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 40
