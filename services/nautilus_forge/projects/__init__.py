"""Projects: who may see them, their settings, members and protected branches."""
