"""The container registry, seen from the forge: who may do what (tokens), what is there (rows and API), what goes.

The images are a registry's business (`docker-registry`, Docker's distribution); it believes the tokens that are
signed here. Everything else is asked of it by its own HTTP API.
"""
