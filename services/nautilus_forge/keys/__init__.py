"""SSH keys of people and of projects, and GitLab's API for them."""
