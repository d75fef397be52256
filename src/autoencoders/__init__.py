"""Encode autos with autoencoders: the plumbing behind the notebooks, small enough to read in an afternoon."""
