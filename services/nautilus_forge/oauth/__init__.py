"""OAuth 2 and OpenID Connect: applications, authorization code with PKCE, tokens.

Source: doc/api/oauth2.md, doc/integration/openid_connect_provider.md, RFC 6749, RFC 7636, RFC 7009.
"""
