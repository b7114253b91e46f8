"""nginx with next to no configuration: what the gateway is measured against."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from nautilus_gateway.testing.programs import free_ports, running_nginx

_CONFIGURATION = """\
{user}
worker_processes 2;
pid {home}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    fastcgi_temp_path {home}/fastcgi;
    proxy_temp_path {home}/proxy;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    client_max_body_size 0;
    client_body_buffer_size 256k;
    sendfile on;
    server {{
        listen 127.0.0.1:{port};
        {server}
    }}
}}
"""


@contextlib.contextmanager
def bare_nginx(home: Path, server: str) -> Iterator[int]:
    """Runs one whose one server has these lines; the port that it listens on."""
    [port] = free_ports(1)
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = home / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(home=home, port=port, user=user, server=server))
    with running_nginx(configuration, port, home / "nginx.log"):
        yield port
