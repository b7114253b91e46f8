"""Requests to addresses that a user gave: which the forge may make, and that they go where was checked.

`approve(url, rules)` resolves and checks; the `Target` that comes back holds the addresses, and every way of using
it (`http.send`, `git.environment`) connects to those alone, follows no redirect and keeps the credentials out of
URLs, argument lists and logs.

Source: gitlabhq lib/gitlab/http_v2/url_blocker.rb, doc/security/webhooks.md.
"""
