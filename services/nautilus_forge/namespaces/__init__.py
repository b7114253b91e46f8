"""Namespaces: where projects may be made."""
