"""Personal access tokens: secrets, their digests, and the API over them."""
