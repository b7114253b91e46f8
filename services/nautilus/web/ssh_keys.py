"""One's own SSH keys: the list with fingerprints, a new one, and removing one."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime

from starlette.responses import Response
from starlette.routing import Route

from nautilus.errors import GitLabConflict, GitLabNotFound, GitLabRefused
from nautilus.keys.service import SshKeyService
from nautilus.web.site import Site, Visit

FIELDS = ("title", "key", "expires")
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


class SshKeyPages:
    def __init__(self, site: Site, keys: SshKeyService) -> None:
        self._site = site
        self._keys = keys

    def routes(self) -> list[Route]:
        page = self._site.page
        return [
            Route("/ssh-keys", page(self.listed), methods=["GET"]),
            Route("/ssh-keys", page(self.add), methods=["POST"]),
            Route("/ssh-keys/{id:int}/remove", page(self.remove), methods=["POST"]),
        ]

    async def listed(self, visit: Visit) -> Response:
        return await self._page(visit, dict.fromkeys(FIELDS, ""))

    async def add(self, visit: Visit) -> Response:
        values = {name: str(visit.form.get(name, "")).strip() for name in FIELDS}
        if _PRIVATE.search(values["key"]):
            values["key"] = ""
            problem = "That is the private key: it stays with you. Paste the file that ends in .pub."
            return await self._page(visit, values, problem, 422)
        try:
            expires_on = date.fromisoformat(values["expires"]) if values["expires"] else None
        except ValueError:
            return await self._page(visit, values, "Write the day as YYYY-MM-DD, or leave it empty.", 422)
        try:
            await self._keys.add(visit.identity, values["title"], values["key"], expires_on)
        except GitLabConflict:
            problem = "This key is in use already, here or by somebody else. Make another one."
            return await self._page(visit, values, problem, 409)
        except GitLabRefused as error:
            return await self._page(visit, values, error.message, error.status)
        return self._site.redirect("/ssh-keys")

    async def remove(self, visit: Visit) -> Response:
        with suppress(GitLabNotFound):  # somebody else's, or gone already: the list says what there is
            await self._keys.remove(visit.identity, int(visit.request.path_params["id"]))
        return self._site.redirect("/ssh-keys")

    async def _page(
        self, visit: Visit, values: dict[str, str], problem: str = "", status: int = 200
    ) -> Response:
        settings = self._site.settings
        return self._site.render(
            visit,
            "ssh_keys.html",
            status,
            keys=await self._keys.list(visit.identity),
            now=datetime.now(UTC),
            values=values,
            problem=problem,
            is_on=settings.sshd_port is not None,
            try_command=try_command(settings.ssh_user, settings.ssh_host, settings.ssh_port),
        )


def try_command(user: str, host: str, port: int) -> str:
    """What greets whoever has a key here."""
    at = f"{user}@{host}"
    return f"ssh -T {at}" if port == 22 else f"ssh -T -p {port} {at}"
