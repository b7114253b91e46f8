"""Signatures as S3's own documentation computes them, and names as gitlab-runner makes them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nautilus_runner.errors import ConfigurationError
from nautilus_runner.s3.signing import EMPTY, Credentials, sign
from nautilus_runner.settings import parse_settings
from nautilus_runner.shared_cache import safe_key
from nautilus_runner.storage_settings import S3Settings, StoreSettings


def test_the_example_of_amazons_documentation() -> None:
    """Source: "Examples: Signature Calculations in AWS Signature Version 4", GET Object."""
    signed = sign(
        "GET",
        "examplebucket.s3.amazonaws.com",
        "/test.txt",
        {},
        {"Range": "bytes=0-9"},
        payload=EMPTY,
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        region="us-east-1",
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert signed["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_credentials_do_not_show_their_secret() -> None:
    assert "hunter2" not in repr(Credentials("AK", "hunter2", "hunter2"))
    assert "hunter2" not in repr(S3Settings(bucket_name="b", access_key="AK", secret_key="hunter2"))
    place = S3Settings(bucket_name="b", access_key="AK", secret_key="hunter2").place
    assert "hunter2" not in repr(place)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("main", "main"),
        ("a/../../b", "b"),
        ("%2e%2e/x", "x"),
        ("a\\b", "a/b"),
        ("a/b  ", "a/b"),
        ("..", None),
        ("  ", None),
        ("/k/", "k"),
    ],
)
def test_keys_never_lead_out_of_their_project(key: str, expected: str | None) -> None:
    assert safe_key(key) == expected


def test_objects_are_named_as_gitlab_runner_names_them() -> None:
    assert StoreSettings().object_name("abc", "project", "1", "k") == "runner/abc/project/1/k"
    assert StoreSettings(shared=True, path="/p/").object_name("abc", "project", "1", "k") == "p/project/1/k"


def test_amazon_is_asked_by_the_buckets_own_host_and_others_by_path() -> None:
    amazon = S3Settings(bucket_name="b", server_address="s3.eu-west-1.amazonaws.com").place
    assert amazon.target("k") == (
        "https://b.s3.eu-west-1.amazonaws.com",
        "b.s3.eu-west-1.amazonaws.com",
        "/k",
    )
    own = S3Settings(bucket_name="b", server_address="minio:9000", insecure=True).place
    assert own.target("k") == ("http://minio:9000", "minio:9000", "/b/k")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('Type = "gcs"', "Type"),
        ('Type = "s3"', "needs a table s3"),
        ('Type = "s3"\n[runners.cache.s3]\nServerAddress = "http://x"\nBucketName = "b"', "without http://"),
        ('Type = "s3"\n[runners.cache.s3]\nBucketName = "b"\nAccessKey = "x"', "go together"),
    ],
)
def test_what_can_not_be_is_refused_with_its_key(table: str, message: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    text = f'[[runners]]\nurl = "http://x"\ntoken = "t"\n[runners.cache]\n{table}\n'
    with pytest.raises(ConfigurationError, match=message):
        parse_settings(text, tmp_path)
