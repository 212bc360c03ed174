"""The suite has as many cases as it promises."""

from pinets_tf import layers
from tests.properties.budgets import FILES, LAYERS, LEAST


def test_cases_of_the_long_run():
    assert sum(LAYERS.values()) + sum(FILES.values()) >= LEAST


def test_every_public_layer_has_cases():
    # `Polynomial` is a base, of CCP, NCP and NCPSkip too.
    assert LAYERS.keys() == set(layers.__all__) - {"Polynomial"}
