"""Tenants and their locks, and who may do what: API keys and browser sessions."""

from decimal import Decimal

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Index,
    Numeric,
    PrimaryKeyConstraint,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from metering.database import Base, Instant, Key


class Tenant(Base):
    """One business that meters its customers. A `test` tenant never has a live destination."""

    __tablename__ = "tenants"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id"),
        CheckConstraint("mode IN ('live', 'test')", name="mode"),
    )

    tenant_id: Mapped[Key]
    name: Mapped[str | None] = mapped_column(Text)
    mode: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Instant]


class TenantLock(Base):
    """The row that whoever changes a tenant's counters locks first.

    It also carries the fold's running totals: they are written by the transaction that folds,
    so `/metrics` is right whatever process did the work and whenever it died.
    """

    __tablename__ = "tenant_locks"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id"),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    tenant_id: Mapped[Key]
    folded: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    folds: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    fold_seconds: Mapped[Decimal] = mapped_column(Numeric, server_default=text("0"))
    set_aside: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    dead_letters: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    reaggregations: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class ApiKey(Base):
    """A key's public half and the hash of its secret half; the secret is shown once."""

    __tablename__ = "api_keys"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "key_id"),
        # Not unique: a lookup may find several and compares the hash of each.
        Index(None, "key_id"),
    )

    tenant_id: Mapped[Key]
    key_id: Mapped[Key]
    secret_sha256: Mapped[bytes]
    name: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[Instant]
    created_by: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[Instant | None]


class ConsoleLink(Base):
    """A one-time link, printed by the operator, that becomes a browser session."""

    __tablename__ = "console_links"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "token_sha256"),
        Index(None, "token_sha256"),
    )

    tenant_id: Mapped[Key]
    token_sha256: Mapped[bytes]
    role: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[Instant]
    used_at: Mapped[Instant | None]


class ConsoleSession(Base):
    """A signed-in browser. The cookie's value is stored only as its hash."""

    __tablename__ = "console_sessions"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "token_sha256"),
        Index(None, "token_sha256"),
    )

    tenant_id: Mapped[Key]
    token_sha256: Mapped[bytes]
    role: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Instant]
    expires_at: Mapped[Instant]
