"""What only GitLab's own console can do: the appliance's service token, before any token exists.

The script goes to `gitlab-rails runner -` on its standard input: no secret is in an argument or the environment.
Source: https://docs.gitlab.com/user/profile/personal_access_tokens/#create-a-personal-access-token-programmatically
"""

from __future__ import annotations

import subprocess

from nautilus.appliance.errors import StepFailed
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.omnibus.ruby import literal

SCOPES = ("api", "sudo", "create_runner", "admin_mode")
LIFETIME_DAYS = 365
"""The longest that GitLab allows unless an administrator says otherwise."""

_TIMEOUT_S = 600
"""It loads all of GitLab: half a minute on a good machine, minutes on a small one."""


def token_script(token: str) -> str:
    """Ruby that makes `token` a valid one of root's, whether it was there before or not."""
    return f"""\
value = {literal(token)}
root = User.find_by_username('root') or abort('there is no user root')
token = PersonalAccessToken.find_by_token(value)
unless token
  token = root.personal_access_tokens.create!(
    name: 'nautilus', scopes: {literal(list(SCOPES))}, expires_at: {LIFETIME_DAYS}.days.from_now
  )
  token.set_token(value)
end
token.update!(revoked: false, expires_at: {LIFETIME_DAYS}.days.from_now)
puts "nautilus: valid until #{{token.expires_at}}"
"""


def ensure_token(package: Omnibus, token: str) -> None:
    """Raises StepFailed with the last line of what GitLab said."""
    run_script(package, token_script(token), "the service token could not be made")


def run_script(package: Omnibus, script: str, otherwise: str) -> str:
    """What the script printed. Raises StepFailed, beginning with `otherwise`."""
    from nautilus.appliance.gitlab import environment

    argv = [str(package.rails), "runner", "-e", "production", "-"]
    try:
        done = subprocess.run(
            argv, input=script, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment()
        )
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{otherwise}: gitlab-rails did not end within {_TIMEOUT_S} s") from None
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise StepFailed(f"{otherwise}: {said[-1] if said else f'status {done.returncode}'}")
    return done.stdout
