"""These files import Triton, which is optional. They have no doctests; tests/model/test_kernels.py tests them."""

collect_ignore_glob = ["*.py"]
