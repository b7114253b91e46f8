"""`python -m nautilus_gateway`: render the appliance's configuration, or ask nginx about a rendered one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nautilus_gateway import GatewayError, Ports, Tls, appliance_config, check, render


def main(argv: list[str] | None = None) -> int:
    """0 when done, 1 with one line on stderr when nginx or the values say no, 2 for wrong usage."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "check":
            check(options.file, options.nginx)
            print(f"{options.file}: nginx would start with it", file=sys.stderr)
        else:
            print(_rendered(options), end="")
    except GatewayError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return 0


def _rendered(options: argparse.Namespace) -> str:
    if (options.certificate is None) != (options.key is None):
        raise SystemExit("--certificate and --key belong together")
    tls = Tls(options.certificate.resolve(), options.key.resolve()) if options.certificate else None
    ports = Ports(
        options.web_port,
        options.management_port,
        options.gitlab_port,
        options.web_tls_port,
    )
    return render(
        appliance_config(
            options.home.resolve(),
            options.run.resolve() if options.run else None,
            ports=ports,
            addresses=tuple(options.address or ["127.0.0.1"]),
            user=options.user,
            tls=tls,
            published_tls_port=options.published_tls_port,
            inner_address=options.inner_address,
            hsts_s=options.hsts,
            trusted_proxies=tuple(options.trusted_proxy),
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nautilus_gateway", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    rendering = commands.add_parser("render", help="print nginx.conf for a data folder")
    rendering.add_argument("--home", type=Path, required=True, help="the appliance's data folder")
    rendering.add_argument("--run", type=Path, help="folder of the sockets (default: HOME/run)")
    rendering.add_argument("--address", action="append", help="to listen on, repeatable (default: 127.0.0.1)")
    rendering.add_argument("--web-port", type=int, default=8080)
    rendering.add_argument("--management-port", type=int, default=8081)
    rendering.add_argument("--gitlab-port", type=int, default=10080)
    rendering.add_argument("--web-tls-port", type=int, help="with --certificate")
    rendering.add_argument("--published-tls-port", type=int, help="where people reach it (default: the same)")
    rendering.add_argument(
        "--inner-address", default="", help="plain HTTP for this machine, with --certificate"
    )
    rendering.add_argument("--hsts", type=int, default=0, metavar="SECONDS", help="Strict-Transport-Security")
    rendering.add_argument("--certificate", type=Path, help="PEM file, with its chain")
    rendering.add_argument("--key", type=Path, help="PEM file of the certificate's private key")
    rendering.add_argument("--trusted-proxy", action="append", default=[], help="network (CIDR), repeatable")
    rendering.add_argument("--user", default="", help="account of the workers when nginx starts as root")

    checking = commands.add_parser("check", help="ask nginx whether it would start with a file")
    checking.add_argument("file", type=Path)
    checking.add_argument("--nginx", default="nginx")
    return parser


if __name__ == "__main__":
    sys.exit(main())
