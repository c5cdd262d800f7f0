"""A PyTorch module becomes a float program, and BatchNorm and clamps go into the operations beside them."""
