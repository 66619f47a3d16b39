"""Static files: kept by browsers under a name that changes with them, and squeezed on the way."""

import gzip

import pytest
from flask.testing import FlaskClient

from webapp import assets

SCRIPT = "vendor/htmx-2.0.11.min.js"


def test_what_is_asked_for_by_fingerprint_is_kept(client: FlaskClient) -> None:
    kept = client.get(f"/static/{SCRIPT}?v={assets.fingerprint(SCRIPT)}", buffered=True)
    assert kept.headers["Cache-Control"] == f"public, max-age={assets.A_YEAR}, immutable"
    old = client.get(f"/static/{SCRIPT}?v=0123456789ab", buffered=True)
    assert "immutable" not in old.headers.get("Cache-Control", "")


@pytest.mark.parametrize("filename", [SCRIPT, "stripemeter.css", "icon.svg"])
def test_a_file_is_squeezed_for_who_reads_it(client: FlaskClient, filename: str) -> None:
    plain = client.get(f"/static/{filename}", buffered=True)
    squeezed = client.get(
        f"/static/{filename}", headers={"Accept-Encoding": "br, gzip"}, buffered=True
    )
    assert "Content-Encoding" not in plain.headers
    assert squeezed.headers["Content-Encoding"] == "gzip"
    assert squeezed.content_length == len(squeezed.data)
    assert gzip.decompress(squeezed.data) == plain.data
    assert squeezed.mimetype == plain.mimetype
    assert "Accept-Encoding" in squeezed.headers["Vary"]
    assert "Accept-Encoding" in plain.headers["Vary"]
    refused = client.get(
        f"/static/{filename}", headers={"Accept-Encoding": "gzip;q=0"}, buffered=True
    )
    assert refused.data == plain.data


def test_a_file_that_has_not_changed_is_not_sent_again(client: FlaskClient) -> None:
    squeezed = client.get(f"/static/{SCRIPT}", headers={"Accept-Encoding": "gzip"}, buffered=True)
    asked = {"Accept-Encoding": "gzip", "If-None-Match": squeezed.headers["ETag"]}
    again = client.get(f"/static/{SCRIPT}", headers=asked, buffered=True)
    assert (again.status_code, again.data) == (304, b"")


def test_only_the_head_is_sent_where_only_it_is_asked_for(client: FlaskClient) -> None:
    head = client.head(f"/static/{SCRIPT}", headers={"Accept-Encoding": "gzip"}, buffered=True)
    assert head.status_code == 200
    assert head.data == b""


def test_a_file_is_kept_once_however_its_address_is_spelt(client: FlaskClient) -> None:
    """Else whoever asks for `././a.css`, `./././a.css` and so on fills the memory."""
    kept = (assets._gzipped, assets.fingerprint)
    client.get("/static/widget.css", headers={"Accept-Encoding": "gzip"}, buffered=True)
    before = [each.cache_info().currsize for each in kept]
    for spelt in (
        "./widget.css",
        "././widget.css",
        "vendor/../widget.css",
        "vendor/.././widget.css",
    ):
        asked = {"Accept-Encoding": "gzip"}
        answer = client.get(f"/static/{spelt}", headers=asked, buffered=True)
        assert answer.headers["Content-Encoding"] == "gzip"
    assert [each.cache_info().currsize for each in kept] == before
