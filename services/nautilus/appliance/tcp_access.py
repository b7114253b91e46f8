"""How PostgreSQL itself is told to listen on TCP, for the one role that reads.

Our own programs go on by the unix socket, whose file is named for the port: so that nothing of theirs changes, the
file of the usual port is then a link to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nautilus.appliance import reading

USUAL_PORT = 5432
_SOCKET = ".s.PGSQL.{}"


@dataclass(frozen=True)
class TcpAccess:
    """Where PostgreSQL listens besides its socket; `certificate` and `key`: PEM files, or None without TLS."""

    listen: tuple[str, ...]
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> TcpAccess | None:
        """As `tcp_environment` wrote it; None where the access is off."""
        if not env.get("NAUTILUS_DATABASE_LISTEN"):
            return None
        certificate, key = env.get("NAUTILUS_DATABASE_CERTIFICATE", ""), env.get("NAUTILUS_DATABASE_KEY", "")
        return cls(
            tuple(env["NAUTILUS_DATABASE_LISTEN"].split(",")),
            int(env["NAUTILUS_DATABASE_LISTEN_PORT"]),
            Path(certificate) if certificate else None,
            Path(key) if key else None,
        )

    def access_rules(self) -> str:
        """Lines of pg_hba.conf: with a certificate, plain connections are refused."""
        kind = "hostssl" if self.certificate else "host"
        allowed = "".join(
            f"{kind} {reading.DATABASE} {reading.ROLE} {network} scram-sha-256\n"
            for network in ("0.0.0.0/0", "::/0")
        )
        return allowed + "host all all all reject\n"

    def server_options(self) -> dict[str, str]:
        options = {
            "listen_addresses": ",".join(self.listen),
            "port": str(self.port),
            "password_encryption": "scram-sha-256",
            "authentication_timeout": "10s",
            "tcp_keepalives_idle": "60",
        }
        if self.certificate and self.key:
            options |= {
                "ssl": "on",
                "ssl_cert_file": str(self.certificate),
                "ssl_key_file": str(self.key),
                "ssl_min_protocol_version": "TLSv1.2",
            }
        return options

    def link_socket(self, folder: Path) -> None:
        """The usual socket's name leads to the one of this port."""
        link = folder / _SOCKET.format(USUAL_PORT)
        if self.port != USUAL_PORT:
            link.unlink(missing_ok=True)
            link.symlink_to(_SOCKET.format(self.port))
