"""A float program gets exponents, is trained with them, and becomes integers."""
