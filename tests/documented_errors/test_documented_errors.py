"""Each error that a docstring documents has a test of its words.

Whoever writes a `Raises:` adds to `TESTED` of the file of its room, for each exception of it, the tests that provoke
it: the name of a test beside those of its neighbours, with the key of its row where the rows are a dictionary, or a
`Case`.
"""

import ast
import builtins
import functools
import re
from pathlib import Path

import pytest

from tests.documented_errors import analysis, data, export, layers, mesh, metrics, models, package, training
from tests.documented_errors.provoking import Case

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = (analysis, data, export, layers, mesh, metrics, models, package, training)
TESTED = {name: tests for room in ROOMS for name, tests in room.TESTED.items()}
PAIRS = [(name, exception) for name, exceptions in TESTED.items() for exception in exceptions]
REFERENCES = [(*pair, test) for pair in PAIRS for test in TESTED[pair[0]][pair[1]] if isinstance(test, str)]
CASES = [(*pair, test) for pair in PAIRS for test in TESTED[pair[0]][pair[1]] if isinstance(test, Case)]


@functools.cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def raised(node):
    """Returns the names of the exceptions in the section `Raises:` of the docstring of a class or function."""
    section = re.search(r"^Raises:\n((?: .*\n?|\n)+)", ast.get_docstring(node) or "", re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+(?:, \w+)*): ", section[1], re.MULTILINE) if section else []
    assert entries or not section, f"{node.name}: `Raises:` lists `Exception: if ...`. Received: {section[1]}"
    return [name for entry in entries for name in entry.split(", ")]


def documented():
    """Yields the name below `pinets_tf` of each public class, function and method, with each exception of `Raises:`."""

    def below(node, prefix):
        for inner in node.body:
            if isinstance(inner, (ast.ClassDef, ast.FunctionDef)) and not inner.name.startswith("_"):
                name = f"{prefix}.{inner.name}"
                yield from ((name, exception) for exception in raised(inner))
                if isinstance(inner, ast.ClassDef):
                    yield from below(inner, name)

    for path in sorted((ROOT / "pinets_tf").rglob("*.py")):
        yield from below(parsed(path), ".".join(path.relative_to(ROOT / "pinets_tf").with_suffix("").parts))


def reached(path, reference):
    """Returns the test of a reference with all that it uses of its module, as nodes."""
    test, _, row = reference.partition("[")
    module = parsed(path).body
    own = {node.name: node for node in module if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in module:
        if isinstance(node, ast.Assign):
            own |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
    assert test in own, f"{path} has no test {test}"
    left, seen = [test], {}
    if row:
        # Of a table, which the decorator names, the row alone.
        seen = {name: None for decorator in own[test].decorator_list for name in names(decorator) & own.keys()}
        tables = [own[name] for name in seen if isinstance(own[name], ast.Dict)]
        rows = [value for table in tables for key, value in zip(table.keys, table.values) if key.value == row[:-1]]
        assert rows, f"the table of {test} has no row {row[:-1]!r}"
        seen["the row"] = rows[0]
        left += names(rows[0])
    while left:
        name = left.pop()
        if name in own and name not in seen:
            seen[name] = own[name]
            left += names(own[name])
    return [node for node in seen.values() if node is not None]


def names(node):
    """Returns the names and attributes that are used in a node."""
    inner = list(ast.walk(node))
    return {x.id for x in inner if isinstance(x, ast.Name)} | {x.attr for x in inner if isinstance(x, ast.Attribute)}


def checked(node):
    """Yields the exceptions that a node expects by `pytest.raises`, and looks at the words of."""
    for item in (item for inner in ast.walk(node) if isinstance(inner, ast.With) for item in inner.items):
        call, caught = item.context_expr, item.optional_vars
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.raises" and call.args:
            looked_at = caught is not None and f"{ast.unparse(caught)}.value" in ast.unparse(node)
            if looked_at or any(keyword.arg == "match" for keyword in call.keywords):
                yield ast.unparse(call.args[0]).rpartition(".")[2]


def is_a(name, wanted):
    """Returns whether an exception of that name may be raised where `wanted` is documented."""
    classes = [getattr(builtins, each, None) for each in (name, wanted)]
    # Scripts make one SystemExit of all that their readers should see.
    return name in (wanted, "SystemExit") or (None not in classes and issubclass(*classes))


def test_all_that_is_documented_is_listed():
    found, listed = set(documented()), set(PAIRS)
    missing, gone = sorted(found - listed), sorted(listed - found)
    assert not missing, f"Add to TESTED a test of the words of: {missing}"
    assert not gone, f"Take out of TESTED what no docstring has under `Raises:`: {gone}"
    assert all(TESTED[name][exception] for name, exception in PAIRS)


@pytest.mark.parametrize("name, exception, reference", REFERENCES)
def test_a_test_looks_at_the_words(name, exception, reference):
    path, _, test = reference.partition("::")
    nodes = reached(ROOT / path, test)
    expected = {caught for node in nodes for caught in checked(node)}
    assert any(is_a(caught, exception) for caught in expected), f"{reference} checks the words of {expected} alone"
    assert any(name.rpartition(".")[2] in names(node) for node in nodes), f"{reference} does not use {name}"


@pytest.mark.parametrize("name, exception, case", CASES)
def test_says_rule_received_remedy(name, exception, case, tmp_path):
    with pytest.raises(BaseException) as caught:
        case.provoke(tmp_path)
    message = str(caught.value)
    # What scripts make a SystemExit of remains its cause.
    classes = [*type(caught.value).__mro__, *type(caught.value.__cause__).__mro__]
    assert exception in [each.__name__ for each in classes], repr(caught.value)
    rule, received, remedy = map(re.escape, case[1:])
    assert re.search(f"{rule}.*Received: .*{received}.*{remedy}", message, re.DOTALL), message
