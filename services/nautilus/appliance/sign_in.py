"""Where a browser is sent to sign in at GitLab.

GitLab's own port, 10080, is one that browsers refuse, so as a rule it is the web port, which passes GitLab's sign-in
pages on. In the full edition GitLab has pages of its own worth going to: so where its address is one that browsers
take (10080 published elsewhere, or a proxy before it), it is that address.
"""

from __future__ import annotations

from nautilus.appliance.edition import Edition
from nautilus.appliance.plan import Plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.core.browsers import is_for_browsers


def sign_in_url(settings: ApplianceSettings, plan: Plan) -> str:
    if settings.sign_in_url:
        return settings.sign_in_url
    if settings.edition is Edition.FULL and is_for_browsers(plan.gitlab_external_url):
        return plan.gitlab_external_url
    return plan.external_url
