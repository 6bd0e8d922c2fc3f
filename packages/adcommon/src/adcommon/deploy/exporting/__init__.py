"""A model as a graph that other programs run: written, checked, in several forms."""
