"""GitLab CE by its Omnibus package: where it lies, what we configure of it, which of its keys we know.

`settings.py` says what we set (values), `ruby.py` how values are written, `files.py` where the text goes,
`known_keys.py` holds every key to the list of the keys that the package knows.
"""
