"""GitLab as this appliance's administrator, for the commands that its operator runs on the machine itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan, read_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.cli.output import CommandError

if TYPE_CHECKING:
    from nautilus.gitlab.provisioning import Administration


def id_of_user(gitlab: Administration, username: str) -> int:
    """Raises CommandError where nobody is called so."""
    found = gitlab.user_id(username)
    if found is None:
        raise CommandError(f"there is no user {username!r} on this server", 2)
    return found


@contextmanager
def administration() -> Iterator[tuple[Administration, Layout, Plan]]:
    """Turns GitLab's refusals and silence into CommandErrors."""
    import gitlab
    import requests

    from nautilus.gitlab.provisioning import Administration

    layout = ApplianceSettings.from_environment().layout
    plan = read_plan(layout.appliance_file)
    if plan is None:
        raise CommandError(f"no appliance was ever started on {layout.home}: run `nautilus up`", 6)
    try:
        token = layout.secret("admin_token").read_text().strip()
        yield Administration(plan.gitlab_url, token), layout, plan
    except PermissionError as error:
        raise CommandError(
            f"{error.filename} is not yours: run this as the appliance's operator", 4
        ) from error
    except requests.RequestException as error:
        raise CommandError(
            f"{plan.gitlab_url} does not answer: is the appliance up? `nautilus status` tells", 6
        ) from error
    except gitlab.GitlabError as error:
        raise CommandError(f"GitLab refused: {error.error_message}", 11) from error
