"""Which ports of a service are waited for, and which count as open."""

from __future__ import annotations

import pytest

from nautilus_runner.executors.services import listening_ports, ports_of

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 00000000:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0200000A:0CEA 0300000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4 1
   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 5 1
"""


def test_what_listens_for_itself_alone_is_not_open() -> None:
    assert listening_ports(TABLE) == {3306, 8080}


@pytest.mark.parametrize(
    ("environment", "exposed", "ports"),
    [
        ([], {"3306/tcp": {}, "33060/tcp": {}, "53/udp": {}}, [3306, 33060]),
        (["HEALTHCHECK_TCP_PORT=8000"], {"80/tcp": {}}, [8000]),
        (["HealthCheck_Tcp_Port=none"], {"80/tcp": {}}, []),
        ([], {"8000-8003/tcp": {}}, [8000, 8001, 8002, 8003]),
        ([], {f"{n}/tcp": {} for n in range(1, 60)}, list(range(1, 21))),
        (["A=1"], {}, []),
    ],
)
def test_ports_are_the_named_one_or_the_exposed_ones(
    environment: list[str], exposed: dict[str, object], ports: list[int]
) -> None:
    assert ports_of(environment, exposed) == ports
