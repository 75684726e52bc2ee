"""These files import Triton, an optional package. They have no doctests; tests/model/test_kernels.py tests them."""

collect_ignore_glob = ["*.py"]
