"""The contenders of ``scripts/benchmark.py``, one module each, and what they have in common."""
