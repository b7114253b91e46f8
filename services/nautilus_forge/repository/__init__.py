"""A project's repository by the API: reading it, committing to it, its branches and tags, and what follows a push."""
