"""Features of one set of vertices made from those of another, by a fixed sparse matrix."""

import math

import keras
import numpy as np

from pinets_tf.fused import neighbor_maps
from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.mesh.template_layer import TemplateLayer


@keras.saving.register_keras_serializable(package="pinets_tf")
class VertexResample(TemplateLayer):
    """Takes features from one level of a mesh to another with a fixed sparse matrix M, down or up (Sec. 5.3).

        y_v = sum_u M[v, u] x_u

    Where every row of M has one entry of 1, as for the selection of vertices, this is a gather; a barycentric M has
    three entries in a row. A row without entries gives zeros.

    Float16: M is kept in float32 under mixed policies, and rounded where it is used.

    Args:
        matrix: M, a sparse matrix of SciPy or an array, (vertices out, vertices in). Its entries are stored with the
            weights, not in the config.
        vertices: vertices in, if `matrix` is a config.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        `(batch, vertices in, channels)`.

    Output shape:
        `(batch, vertices out, channels)`.

    Raises:
        ValueError: if `matrix` is not a matrix of finite numbers, or if the input has another number of vertices.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.layers import VertexResample
    >>> midpoint = VertexResample(np.array([[0.5, 0.5, 0.0]]))
    >>> midpoint(np.ones((2, 3, 8), "float32")).shape[1:]
    TensorShape([1, 8])

    Source: Ranjan et al., "Generating 3D Faces using Convolutional Mesh Autoencoders", ECCV 2018, Sec. 3.
    """

    acts_as = "linear"

    def __init__(self, matrix, vertices=None, **kwargs):
        super().__init__(**kwargs)
        if isinstance(matrix, dict):
            sources, shares = matrix["sources"], matrix["shares"]
        else:
            sources, shares, vertices = _rows(matrix)
        self.vertices = positive_integer("vertices", vertices, "Pass the number of columns of the matrix.")
        self._set_tables(sources=(sources, "int32"), shares=(shares, "float32"))

    def build(self, input_shape):
        self._check_vertices(input_shape, self.vertices)
        self._build_tables()

    def call(self, x):
        return neighbor_maps.weighted_rows(x, self.sources, self.shares, self._table_values("sources"))

    def multiply_adds(self, input_shape):
        return 0, math.prod(self.compute_output_shape(input_shape)) * self._table_shape("sources")[1]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self._table_shape("sources")[0], input_shape[2])

    def get_config(self):
        config = super().get_config()
        matrix = {name: config.pop(name) for name in ("sources", "shares")}
        return {**config, "matrix": matrix, "vertices": self.vertices}


def _rows(matrix):
    """Returns columns and values of the entries of each row, (rows, most entries in a row), and the columns' number."""
    if hasattr(matrix, "tocsr"):
        matrix = matrix.tocsr().copy()
        matrix.sum_duplicates()
        size, columns, values = matrix.shape, matrix.indices, np.asarray(matrix.data)
        counts = np.diff(matrix.indptr)
    else:
        matrix = np.atleast_1d(matrix)
        size, counts = matrix.shape, (matrix != 0).sum(-1) if matrix.ndim == 2 else ()
        columns = matrix.nonzero()[-1]
        values = matrix[matrix.nonzero()]
    if len(size) != 2 or not min(size) or not np.isfinite(values).all():
        raise ValueError(
            "`matrix` must have a row for every vertex out and a column for every vertex in, all finite. "
            f"Received: a matrix of shape {tuple(size)}{', with entries that are not finite' * (len(size) == 2)}. "
            "Pass one of the matrices of `pinets_tf.mesh.hierarchy`."
        )
    most = max(1, int(np.max(counts)))
    sources, shares = np.zeros((size[0], most), "int32"), np.zeros((size[0], most), "float32")
    place = np.arange(most) < np.asarray(counts)[:, None]
    sources[place], shares[place] = columns, values
    # What fills a row is weighted with zero: a vertex of the same row, so that nothing from elsewhere can get in.
    sources = np.where(place, sources, sources[:, :1])
    return sources, shares, size[1]
