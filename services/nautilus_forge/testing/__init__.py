"""Shipped for tests: a whole forge on a free TCP port."""
