"""PostgreSQL on a TCP port, when NAUTILUS_DATABASE_ACCESS=readonly: one role, one database, a password, TLS if there
is any.
"""

from __future__ import annotations

import secrets

from nautilus.appliance import postgres, reading
from nautilus.appliance.accounts import Accounts
from nautilus.appliance.addresses import host_of
from nautilus.appliance.folders import write_private
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan
from nautilus_gateway import Tls

PASSWORD = "database_password"  # noqa: S105 -- the name of the file below HOME/secrets


def tcp_environment(layout: Layout, plan: Plan, tls: Tls | None, who: Accounts) -> dict[str, str]:
    """For the program `postgres`; empty values where the access is off. Makes the password, and copies that the
    server's user may read of the certificate and its key.
    """
    names = ("LISTEN", "LISTEN_PORT", "CERTIFICATE", "KEY")
    values = dict.fromkeys(names, "")
    if "database" in plan.ports:
        ensure_password(layout, who)
        values |= {"LISTEN": ",".join(plan.listen), "LISTEN_PORT": str(plan.ports["database"])}
        if tls is not None:
            certificate, key = layout.secret("database_certificate.pem"), layout.secret("database_key.pem")
            write_private(certificate, tls.certificate.read_text(), who)
            write_private(key, tls.key.read_text(), who)
            values |= {"CERTIFICATE": str(certificate), "KEY": str(key)}
    return {f"NAUTILUS_DATABASE_{name}": value for name, value in values.items()}


def ensure_password(layout: Layout, who: Accounts, anew: bool = False) -> str:
    path = layout.secret(PASSWORD)
    if anew or not path.exists():
        write_private(path, secrets.token_urlsafe(24) + "\n", who)
    return readable_password(layout)


def ensure_database_access(layout: Layout, plan: Plan) -> None:
    """The role and its views as the plan says: there, or shut. A step of provision, after the migrations."""
    import psycopg

    with psycopg.connect(owner_conninfo(layout), autocommit=True) as connection:
        if "database" in plan.ports:
            reading.ensure_reading(connection, readable_password(layout))
        else:
            reading.shut_reading(connection)


def owner_conninfo(layout: Layout) -> str:
    """libpq's words for the owner's way in, by the socket."""
    return postgres.conninfo(layout.postgres_socket_dir, reading.DATABASE)


def connection_fields(layout: Layout, plan: Plan) -> dict[str, str]:
    """What a client is given, without the password."""
    fields = {
        "host": host_of(plan.external_url),
        "port": str(plan.ports["database"]),
        "dbname": reading.DATABASE,
        "user": reading.ROLE,
    }
    if plan.tls == "own-ca":
        fields |= {"sslmode": "verify-full", "sslrootcert": "nautilus-ca.pem"}
    elif plan.tls == "files":
        fields |= {"sslmode": "verify-full", "sslrootcert": "system"}
    return fields


def readable_password(layout: Layout) -> str:
    """Raises PermissionError for whoever is not the operator."""
    return layout.secret(PASSWORD).read_text().strip()
