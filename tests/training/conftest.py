import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Use one thread: networks this small gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
