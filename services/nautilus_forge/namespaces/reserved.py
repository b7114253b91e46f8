"""Names that no user, group or project may have, because a route stands there.

Source: gitlabhq lib/gitlab/path_regex.rb (`TOP_LEVEL_ROUTES`, `PROJECT_WILDCARD_ROUTES`).
"""

from __future__ import annotations

# fmt: off
TOP_LEVEL = frozenset({
    "-", ".well-known", "404.html", "422.html", "500.html", "502.html", "503.html", "abuse_reports", "admin",
    "api", "apple-touch-icon.png", "assets", "dashboard", "deploy.html", "explore", "favicon.ico", "favicon.png",
    "files", "groups", "health_check", "help", "import", "internal", "jwt", "login", "oauth", "profile",
    "projects", "public", "robots.txt", "s", "search", "sitemap", "sitemap.xml", "sitemap.xml.gz",
    "slash-command-logo.png", "snippets", "unsubscribes", "uploads", "users", "v2",
    "_authorize", "_forge", "_management", "_page",
})
"""Of namespaces at the top; the last line is the gateway's own."""

BELOW = frozenset({
    "-", "badges", "blame", "blob", "builds", "commits", "create", "create_dir", "edit", "files", "find_file",
    "info", "new", "preview", "raw", "refs", "tree", "update", "wikis",
})
"""Of subgroups and projects: what may follow a project's path in an address."""
# fmt: on
