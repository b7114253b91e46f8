"""For the image's HEALTHCHECK: 0 when the gateway says that every component is ready, else 1 and which is not."""

from __future__ import annotations

import sys

from nautilus.appliance.plan import read_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.appliance.status import probe_health


def unready_components(settings: ApplianceSettings) -> list[str]:
    """What is not ready, as "name: state (detail)"; empty when all is well."""
    plan = read_plan(settings.layout.appliance_file)
    health = probe_health(plan) if plan else {}
    if health.get("ready"):
        return []
    components = health.get("components") or [{"name": "gateway", "state": "down", "detail": "no answer"}]
    return [
        f"{c['name']}: {c['state']} ({c.get('detail') or '-'})" for c in components if c["state"] != "ready"
    ]


def main() -> None:
    """As `nautilus healthcheck`, without the command line's library: it runs every ten seconds."""
    unready = unready_components(ApplianceSettings.from_environment())
    if unready:
        print(f"nautilus: {'; '.join(unready)}", file=sys.stderr)
        raise SystemExit(1)
    print("ready")


if __name__ == "__main__":
    main()
