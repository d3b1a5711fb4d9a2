"""Ways to reach a node. Each implements the one seam in `seam.py`."""
