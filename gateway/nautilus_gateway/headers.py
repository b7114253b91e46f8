"""Which request headers reach a service, and which are the gateway's own word.

nginx cannot drop headers by a pattern (`X-Nautilus-*`), so it passes none of the client's but those named
here. A service that begins to need another header gets it by one line in `CLIENT_HEADERS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from nautilus_gateway.syntax import Directive, directive

CLIENT_HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Access-Control-Request-Headers",
    "Access-Control-Request-Method",
    "Authorization",
    "Baggage",
    "Cache-Control",
    "Content-Encoding",
    "Content-MD5",
    "Content-Range",
    "Content-Type",
    "Cookie",
    "Deploy-Token",
    "Digest",
    "HX-Boosted",
    "HX-Current-URL",
    "HX-History-Restore-Request",
    "HX-Prompt",
    "HX-Request",
    "HX-Target",
    "HX-Trigger",
    "HX-Trigger-Name",
    "Idempotency-Key",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Job-Token",
    "Last-Event-ID",
    "Origin",
    "Pragma",
    "Prefer",
    "Private-Token",
    "Range",
    "Referer",
    "Runner-Token",
    "Sec-Fetch-Dest",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Site",
    "Sec-Fetch-User",
    "Sudo",
    "Traceparent",
    "Tracestate",
    "User-Agent",
    "X-CSRF-Token",
    "X-GitLab-Event",
    "X-GitLab-Last-Update",
    "X-GitLab-Token",
    "X-MLflow-Workspace",
    "X-Requested-With",
)
"""What HTTP, GitLab's API and runner protocol, MLflow's client, htmx and tracing send; no identity."""

CREDENTIAL_HEADERS = ("Authorization", "Deploy-Token", "Job-Token", "Private-Token", "Runner-Token", "Sudo")
"""What a service needs to decide about an upload before it begins. Cookies are not believed there: no form of
ours sends one of these bodies, so a cookie could only come from a forged request."""

GIT_CREDENTIAL_HEADERS = ("Authorization",)

GATEWAY_HEADERS: Mapping[str, str] = {
    "Host": "$forwarded_host",
    "X-Forwarded-For": "$remote_addr",
    "X-Forwarded-Host": "$forwarded_host",
    "X-Forwarded-Proto": "$forwarded_proto",
    "X-Nautilus-Gateway": "1",
    "X-Request-Id": "$request_id",
}
"""What the gateway says of every request; a client cannot say it."""

SPOOLED_HEADERS: Mapping[str, str] = {"X-Nautilus-Body-File": "$body_file"}
"""Where a spooled body lies. Never in a question: nginx would remember the empty value from before the body."""

ORIGINAL_HEADERS: Mapping[str, str] = {
    "X-Original-Method": "$request_method",
    "X-Original-URI": "$request_uri",
}
"""The request that an internal question is about: the raw first line of it, never decoded."""


NOT_HONOURED = ("X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Limit-Rate", "X-Accel-Charset")
"""What an answer may not tell nginx unless its upstream has a folder of files to send."""


def request_headers(client: tuple[str, ...] = CLIENT_HEADERS, own: Mapping[str, str] = {}) -> list[Directive]:
    """The directives that send the `client` headers as they came and `own` besides the gateway's.

    nginx inherits these as a whole or not at all, so what only some locations send is a variable that is
    empty elsewhere (an empty header is not sent).
    """
    passed = {name: f"$http_{name.lower().replace('-', '_')}" for name in client}
    sent = passed | dict(GATEWAY_HEADERS) | {"Connection": ""} | dict(own)
    return [
        directive("proxy_pass_request_headers", "off"),
        *(directive("proxy_set_header", name, value) for name, value in sent.items()),
    ]


def response_headers(extra: Mapping[str, str] | None = None) -> list[Directive]:
    """Headers of every answer; the `$default_…` ones are empty where the service has its own."""
    headers = {
        "X-Request-Id": "$request_id",
        "X-Content-Type-Options": "$default_content_type_options",
        "X-Frame-Options": "$default_frame_options",
        "Referrer-Policy": "$default_referrer_policy",
        "Strict-Transport-Security": "$hsts",
    } | dict(extra or {})
    return [directive("add_header", name, value, "always") for name, value in headers.items()]
