"""Convolutions, polynomials and resampling on the vertices of a mesh."""
