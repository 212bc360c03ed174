"""The decompositions of the paper, and the recursion that they share."""
