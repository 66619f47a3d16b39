"""Statements are signed with Ed25519 by a key of the installation's.

The last line holds a digest of each line before it, so that whoever checks can name the lines that
are not as they were signed, and one signature over all of that.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from metering.proof import form
from metering.proof.form import Record

ALGORITHM = "Ed25519"
SECRET_BYTES = 32
# A secret that is used elsewhere as well gives another key there.
_PURPOSE = b"stripemeter statements 1"


def key_id(public: bytes) -> str:
    """The fingerprint of a public key: 128 bits of its SHA-256, in hex."""
    return hashlib.sha256(public).hexdigest()[:32]


@dataclass(frozen=True)
class SigningKey:
    """The installation's key. public: 32 bytes."""

    private: Ed25519PrivateKey

    @classmethod
    def derived(cls, secret: bytes) -> "SigningKey":
        """From the installation's secret, the same at every start."""
        seed = HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=_PURPOSE).derive(secret)
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public(self) -> bytes:
        raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        return self.private.public_key().public_bytes(*raw)

    @property
    def key_id(self) -> str:
        return key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)


def fits(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the signature is the key's over the message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def sealed(records: Iterable[Record], key: SigningKey, form_name: str) -> Iterator[bytes]:
    """The lines of a statement with their line breaks, and at last the signature.

    Of each line nothing is kept but nine bytes.
    """
    whole, digests = hashlib.sha256(), bytearray()

    def counted(line: bytes) -> bytes:
        whole.update(line + b"\n")
        digests.extend(form.line_digest(line))
        return line + b"\n"

    head = form.head(form_name)
    if head is not None:
        yield counted(head)
    for record in records:
        yield counted(form.write(form_name, record))
    members: dict[str, Any] = {
        "type": "signature",
        "algorithm": ALGORITHM,
        "keyId": key.key_id,
        "publicKey": base64.b64encode(key.public).decode(),
        "lines": len(digests) // form.DIGEST_BYTES,
        "sha256": whole.hexdigest(),
        "lineDigests": base64.b64encode(bytes(digests)).decode(),
    }
    signature = base64.b64encode(key.sign(form.canonical(members))).decode()
    yield form.write_signature(form_name, members | {"signature": signature}) + b"\n"
