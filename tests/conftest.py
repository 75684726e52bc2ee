"""Fixtures and settings of all tests."""

import os

import pytest
import torch

os.environ["TRITON_INTERPRET"] = "1"  # before the first import of triton, which PyTorch also imports


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from more threads, and other programs run beside the tests."""
    torch.set_num_threads(1)
