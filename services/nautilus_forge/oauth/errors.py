"""OAuth's own errors, with the words that GitLab (Doorkeeper) uses.

Source: RFC 6749 section 5.2; gitlabhq config/locales/doorkeeper.en.yml.
"""

from __future__ import annotations

from nautilus_forge.errors import ForgeError

WORDS = {
    "invalid_request": "The request is missing a required parameter, includes an unsupported parameter value, "
    "or is otherwise malformed.",
    "invalid_client": "Client authentication failed due to unknown client, no client authentication included, "
    "or unsupported authentication method.",
    "invalid_grant": "The provided authorization grant is invalid, expired, revoked, does not match the "
    "redirection URI used in the authorization request, or was issued to another client.",
    "invalid_scope": "The requested scope is invalid, unknown, or malformed.",
    "invalid_token": "The access token is invalid",
    "access_denied": "The resource owner or authorization server denied the request.",
    "unsupported_grant_type": "The authorization grant type is not supported by the authorization server.",
    "unsupported_response_type": "The authorization server does not support this response type.",
    "invalid_redirect_uri": "The redirect URI included is not valid.",
    "invalid_code_challenge_method": "The code_challenge_method must be S256.",
}


class OAuthError(ForgeError):
    """`{"error": code, "error_description": words}`; 401 for clients and tokens that are not known, else 400."""

    status = 400

    def __init__(self, code: str, description: str | None = None) -> None:
        self.code = code
        self.description = description or WORDS[code]
        headers = {"Cache-Control": "no-store"}
        if code in ("invalid_client", "invalid_token"):
            headers["WWW-Authenticate"] = f'Bearer realm="GitLab", error="{code}"'
        super().__init__(body={"error": code, "error_description": self.description}, headers=headers)


class UnauthorizedOAuth(OAuthError):
    status = 401


def oauth_error(code: str, description: str | None = None) -> OAuthError:
    """The error of this code with its status."""
    kind = UnauthorizedOAuth if code in ("invalid_client", "invalid_token") else OAuthError
    return kind(code, description)
