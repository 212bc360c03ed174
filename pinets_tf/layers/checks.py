"""Argument checks whose messages say the rule, what was received, and the remedy."""

import math
import numbers
import operator


def positive_integer(name, value, remedy):
    """Returns `value` as an `int` of at least 1, or raises a `ValueError`."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}. {remedy}")
    return number


def positive_number(name, value, remedy):
    """Returns `value` if it is a finite number above 0, or raises a `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < math.inf:
        raise ValueError(f"`{name}` must be a positive number. Received: {name}={value!r}. {remedy}")
    return value


def one_of(name, value, allowed):
    """Returns `value` if it is in `allowed`, or raises a `ValueError`."""
    if value not in allowed:
        listed = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"`{name}` must be one of {listed}. Received: {name}={value!r}. Pass one of those values.")
    return value


def same_shape(first, second):
    """Whether two shapes agree in every dimension that both of them know."""
    return len(first) == len(second) and all(a == b or a is None or b is None for a, b in zip(first, second))
