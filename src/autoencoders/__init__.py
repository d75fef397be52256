"""Encode autos with autoencoders: what is behind the notebooks, to read in an afternoon."""

import os

# Threads that wait for each other go to sleep. Left to themselves they spin, and where another
# program wants the processor too, that takes several times as long. The Makefile says the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read once, when torch is loaded
