"""Sign-in at GitLab (OAuth 2 authorization code with PKCE) and the sessions of the pages."""
