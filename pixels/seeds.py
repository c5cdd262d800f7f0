"""Seeds and generators that depend on what they are for, and on nothing that came before."""

import hashlib

import torch


def derive_seed(*parts: int) -> int:
    """A 63-bit seed that depends on every part, for example (seed, epoch, index)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seeded_generator(*parts: int) -> torch.Generator:
    """A CPU generator that starts from `parts` alone."""
    return torch.Generator().manual_seed(derive_seed(*parts))
