"""The keywords of a configuration: each module checks one and gives its value back.

A mistake is added to the problems with GitLab's words and its place, and reading goes on, so that one run finds
them all. What GitLab knows and this server does not carry out is refused by name, never dropped.

Source: GitLab's lib/gitlab/ci/config/entry/ and lib/gitlab/config/entry/validators.rb.
"""
