"""From a float network to integers that every runtime computes alike; `fixedpoint.quantizer` is the way in."""
