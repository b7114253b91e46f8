"""`python -m nautilus_gateway`."""

from __future__ import annotations

from pathlib import Path

import pytest

from nautilus_gateway.__main__ import main


def test_render_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        ["render", "--home", "/srv/n", "--web-port", "80", "--address", "0.0.0.0", "--user", "nautilus"]
    )

    text = capsys.readouterr().out
    assert code == 0
    assert "listen 0.0.0.0:80;" in text and "user nautilus;" in text and "/srv/n/spool" in text


def test_a_value_that_cannot_be_written_is_one_line_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["render", "--home", "/srv/n", "--web-port", "10080"])

    assert code == 1
    assert capsys.readouterr().err == "gateway_configuration_invalid: port 10080 is asked for twice\n"


def test_check_without_nginx_says_how_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", str(tmp_path / "nginx.conf"), "--nginx", "/nonexistent/nginx"])

    assert code == 1
    assert "apt-get install" in capsys.readouterr().err


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(SystemExit, match="belong together"):
        main(["render", "--home", "/srv/n", "--certificate", "/c.pem"])
