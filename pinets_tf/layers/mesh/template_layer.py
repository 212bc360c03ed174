"""Layers that belong to one template mesh: its tables are weights that nothing trains."""

import hashlib
import weakref
from typing import Any

import keras
import numpy as np
from keras import ops

from pinets_tf.fused import neighbor_maps

_KNOWN: "weakref.WeakValueDictionary[str, Table]" = weakref.WeakValueDictionary()


class Table:
    """An array that describes a template, such as its spirals.

    It is saved as a weight, once, and a config names it by its content alone. A layer made from a config finds the
    array if another layer of this process has it; otherwise the table holds an index that no vertex has, or not a
    number, until weights are loaded.
    """

    def __init__(self, shape, dtype, digest, values=None):
        self.shape, self.dtype, self.digest, self.values = tuple(shape), dtype, digest, values

    @classmethod
    def of(cls, values, dtype):
        """Returns the table of an array or of a config."""
        if isinstance(values, dict):
            known = _KNOWN.get(values["sha256"])
            return known or cls(values["shape"], dtype, values["sha256"])
        values = np.ascontiguousarray(values, dtype)
        digest = hashlib.sha256(repr((values.shape, dtype)).encode() + values.tobytes()).hexdigest()
        return _KNOWN.setdefault(digest, cls(values.shape, dtype, digest, values))

    def config(self):
        return {"shape": list(self.shape), "sha256": self.digest}

    def initial(self):
        if self.values is not None:
            return self.values
        return np.full(self.shape, np.iinfo("int32").max if self.dtype == "int32" else np.nan, self.dtype)


class TemplateLayer(keras.layers.Layer):
    """A layer with tables, whose input `(batch, vertices, channels)` has the vertices of one template.

    Subclasses call `_set_tables` in `__init__` and `_build_tables` in `build`.
    """

    def _set_tables(self, **tables):
        """Takes for each name an array or config and its dtype, int32 or float32."""
        self._tables = {name: Table.of(values, dtype) for name, (values, dtype) in tables.items()}

    def _table_shape(self, name):
        return self._tables[name].shape

    def _table_values(self, name):
        """Returns the array behind a table, or `None` where only its name is known."""
        return self._tables[name].values

    def _set_neighbors(self, name, values, keep):
        """Takes a table (vertices, length) of neighbours, and the vertices to compute, `None` for all."""
        values = neighbor_table(name, values)
        vertices = values["shape"][0] if isinstance(values, dict) else len(values)
        kept = {} if keep is None else {"keep": (_kept(keep, vertices), "int32")}
        self._set_tables(**{name: (values, "int32")}, **kept)

    def _neighbors(self, name, kept=True) -> tuple[Any, Any]:
        """Returns a table of neighbours, of the vertices to compute or of all, and its values if they are known."""
        table, values = getattr(self, name), self._table_values(name)
        if not kept or "keep" not in self._tables:
            return table, values
        keep = self._table_values("keep")
        values = None if values is None or keep is None else values[keep]
        return neighbor_maps.take(table, self.keep, 0), values

    def _rows(self, name):
        """Returns how many vertices are computed."""
        return self._table_shape("keep" if "keep" in self._tables else name)[0]

    def _build_tables(self):
        for name, table in self._tables.items():
            # Integers of 64 bits on TensorFlow, whose GPUs hold no variable of 32.
            dtype = "int" if table.dtype == "int32" else self.variable_dtype
            weight = self.add_weight(
                shape=table.shape,
                dtype=dtype,
                trainable=False,
                initializer=lambda shape, dtype, table=table: ops.convert_to_tensor(table.initial(), dtype),
                name=name,
            )
            setattr(self, name, weight)

    def _check_vertices(self, input_shape, vertices):
        if len(input_shape) != 3 or input_shape[1] not in (None, vertices) or not input_shape[2]:
            raise ValueError(
                f"{type(self).__name__} takes features (batch, vertices, channels) of its own template. "
                f"Received: an input of shape {tuple(input_shape)}, where the template has {vertices} vertices. "
                "Pass shapes of the topology that the layer was made for."
            )
        # Where the number of vertices was not known, Keras compares it at each call.
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={1: vertices, 2: input_shape[2]})

    def load_own_variables(self, store):
        super().load_own_variables(store)
        for name in self._tables if self.built else ():
            values = ops.convert_to_numpy(getattr(self, name))
            self._tables[name] = Table.of(values, self._tables[name].dtype)

    def get_config(self):
        return {**super().get_config(), **{name: table.config() for name, table in self._tables.items()}}


def neighbor_table(name, values):
    """Returns a table (vertices, neighbours) of vertex indices, where the number of vertices stands for none."""
    if isinstance(values, dict):
        return values
    array = np.asarray(values)
    if array.ndim != 2 or not array.size or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"`{name}` must be a table of integers of two axes. Received: an array of shape {array.shape} and type "
            f"{array.dtype}. Pass what `pinets_tf.mesh.spirals` returns."
        )
    if array.min() < 0 or array.max() > len(array):
        raise ValueError(
            f"`{name}` holds indices of vertices, and their number where there is none. Received: indices from "
            f"{array.min()} to {array.max()} for {len(array)} vertices. Pass what `pinets_tf.mesh.spirals` returns."
        )
    return array


def _kept(keep, vertices):
    if isinstance(keep, dict):
        return keep
    array = np.asarray(keep)
    integers = array.ndim == 1 and array.size and np.issubdtype(array.dtype, np.integer)
    if not integers or array.min() < 0 or array.max() >= vertices:
        raise ValueError(
            f"`keep` must be a list of vertices, from 0 to {vertices - 1}. Received: an array of shape {array.shape} "
            f"and type {array.dtype}. Pass the vertices that the next level keeps, or None for all."
        )
    return array
