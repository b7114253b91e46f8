"""People: accounts, passwords, their namespaces, and GitLab's users API."""
