"""The variables of a training in one `.npz` file, which is the old one or the new one whenever it is read.

Python writes it: HDF5 ends the process where a disk is full.
"""

import os

import keras
import numpy as np
from keras import ops

from pinets_tf.npz import Npz
from pinets_tf.training.cluster import broadcast


def arrays_of(state):
    """Returns the values of variables as arrays, by holder and number.

    Args:
        state: a dictionary from the name of a holder, such as `"optimizer"`, to a list of variables.
    """
    return {key: ops.convert_to_numpy(variable) for key, variable in _numbered(state)}


def holder_not_finite(arrays):
    """Returns the holder of the first array with a number that is not finite, or `None`."""
    floats = ((key, array) for key, array in arrays.items() if keras.backend.is_float_dtype(array.dtype.name))
    return next((key.partition("/")[0] for key, array in floats if not np.isfinite(array).all()), None)


def write_arrays(file, arrays):
    """Writes arrays into a file in one step."""
    temporary = file.with_name("partial." + file.name)
    np.savez(temporary, **arrays)
    os.replace(temporary, file)


def read_arrays(file, state, others=()):
    """Returns the arrays of a file by name, on this process.

    Args:
        file: the path of what `write_arrays` has written.
        state: as in `arrays_of`; each of its variables must be there.
        others: holders of what else may be there; nothing more may be.

    It raises a `ValueError` for one that cannot be read, or holds other arrays.
    """
    with Npz(file, "A checkpoint is an .npz file") as stored:
        arrays = {name: stored[name] for name in stored.names}
    own = {name for name in arrays if name.partition("/")[0] not in others}
    expected = dict(_numbered(state))
    if len(own) != len(expected):
        raise ValueError(f"{len(own)} variables instead of {len(expected)}")
    for name, variable in expected.items():
        if name not in own or arrays[name].shape != tuple(variable.shape):
            raise ValueError(f"{name} has another shape, or is not there")
    return arrays


def assign_arrays(state, arrays):
    """Gives the variables of all processes the values of the arrays that the first process has read, if it has any.

    Returns:
        Whether it has.
    """
    (found,) = broadcast([np.float32(bool(arrays))])
    if not found:
        return False
    expected = dict(_numbered(state))
    values = [arrays.get(key, ops.convert_to_numpy(variable)) for key, variable in expected.items()]
    for variable, value in zip(expected.values(), broadcast(values)):
        variable.assign(value)
    return True


def _numbered(state):
    for holder, variables in state.items():
        for index, variable in enumerate(variables):
            yield f"{holder}/{index}", variable
