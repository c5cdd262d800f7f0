"""Seeds and generators that depend only on their purpose, not on earlier draws."""

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part, for example (seed, epoch, index)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seeded_generator(*parts: int | str) -> torch.Generator:
    """A CPU generator whose seed depends on `parts` alone."""
    return torch.Generator().manual_seed(derive_seed(*parts))
