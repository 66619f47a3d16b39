"""An object of S3-compatible storage as a stream; for the operator's command line only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from metering.errors import InvalidInputError
from webapp.backfill.stream import BrokenError
from webapp.config import Config

SCHEME = "s3://"
_PIECE = 64 * 1024
_DEFAULT_ENDPOINT, _DEFAULT_REGION = "https://s3.amazonaws.com", "us-east-1"


@contextmanager
def opened(address: str, config: Config) -> Iterator[tuple[Iterator[bytes], int | None]]:
    """(pieces of `s3://bucket/key`, its size).

    Raises: InvalidInputError if it cannot be had, with a sentence; the pieces raise BrokenError
            if the connection ends before the object does.
    """
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    if not bucket or not key:
        raise InvalidInputError(f"{address} names no object: write s3://bucket/key")
    client, errors = _client(config)
    try:
        response = client.get_object(bucket, key)
    except errors as error:
        raise InvalidInputError(f"{address} cannot be read: {_words(error)}") from None
    size = response.headers.get("Content-Length")
    try:
        yield _pieces(response, errors), int(size) if size else None
    finally:
        response.close()
        response.release_conn()


def _client(config: Config) -> tuple[Any, tuple[type[Exception], ...]]:
    """(the client, what it raises)."""
    try:
        import minio
        import urllib3
    except ImportError:
        raise InvalidInputError(
            "reading from S3 needs one more package: pip install 'stripemeter-server[s3]'"
        ) from None
    if config.aws_access_key_id is None or config.aws_secret_access_key is None:
        raise InvalidInputError(
            "reading from S3 needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and"
            " S3_ENDPOINT_URL where the storage is not Amazon's"
        )
    endpoint = urlsplit(config.s3_endpoint_url or _DEFAULT_ENDPOINT)
    client = minio.Minio(
        endpoint.netloc,
        access_key=config.aws_access_key_id,
        secret_key=config.aws_secret_access_key,
        secure=endpoint.scheme == "https",
        region=config.s3_region or _DEFAULT_REGION,
        http_client=urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=10, read=60),
            retries=urllib3.Retry(total=2, backoff_factor=0.2),
        ),
    )
    return client, (minio.error.MinioException, urllib3.exceptions.HTTPError, ValueError)


def _pieces(response: Any, errors: tuple[type[Exception], ...]) -> Iterator[bytes]:
    try:
        yield from response.stream(_PIECE, decode_content=False)
    except errors as error:
        raise BrokenError(f"The storage broke off: {_words(error)}.") from None


def _words(error: Exception) -> str:
    code, message = getattr(error, "code", None), getattr(error, "message", None)
    return f"{code}: {message}" if code else str(message or error).partition("\n")[0]
