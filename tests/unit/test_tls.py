"""When certificates expire."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from synap.tls import expires_at
from workers.certificate_watch import CertificateWatch

DAY = 24 * 3600


def certificate(folder: Path, *ends: datetime) -> Path:
    """Write a chain of certificates that expire at `ends`."""
    ca = trustme.CA()
    path = folder / "cert.pem"
    issued = [ca.issue_cert("localhost", not_after=end) for end in ends]
    path.write_bytes(b"".join(each.cert_chain_pems[0].bytes() for each in issued))
    return path


@pytest.mark.parametrize("year", [2030, 2049, 2050, 2123])
def test_expires_at_is_the_first_of_a_chain(tmp_path: Path, year: int) -> None:
    end = datetime(year, 2, 28, 23, 59, 58, tzinfo=UTC)
    path = certificate(tmp_path, end.replace(year=year + 1), end, end.replace(year=year + 2))
    assert expires_at(path) == int(end.timestamp())


@pytest.mark.parametrize(
    "content",
    [
        "",
        "-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----",
    ],
)
def test_expires_at_of_no_certificate_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "cert.pem").write_text(content)
    with pytest.raises(ValueError, match="certificate"):
        expires_at(tmp_path / "cert.pem")


def test_watch_says_daily_that_a_certificate_expires_soon_and_that_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = certificate(tmp_path, datetime(2030, 1, 1, tzinfo=UTC))
    wall = [expires_at(path) - 15 * DAY]
    passed = [100]
    watch = CertificateWatch(path, lambda: wall[0], lambda: passed[0])
    with caplog.at_level(logging.INFO):
        for _ in range(40):
            watch.look()
            wall[0] += DAY // 2
            passed[0] += DAY // 2
    said = [record.levelname for record in caplog.records]
    assert said == ["WARNING"] * 13 + ["ERROR"] * 5
    assert "expires in 13 days" in caplog.messages[0]
    assert "has expired" in caplog.messages[-1]


def test_watch_of_a_file_that_is_gone_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    CertificateWatch(tmp_path / "none.pem", lambda: 0, lambda: 1).look()
    assert "can't be looked at" in caplog.text
