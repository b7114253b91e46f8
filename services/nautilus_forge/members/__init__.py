"""Who belongs to a project or a group, and at which level."""
