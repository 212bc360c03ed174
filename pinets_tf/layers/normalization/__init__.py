"""Batch normalisation of maps, products and vertices."""
