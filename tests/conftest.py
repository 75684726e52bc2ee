"""What all tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from more threads, and other programs run beside the tests."""
    torch.set_num_threads(1)
