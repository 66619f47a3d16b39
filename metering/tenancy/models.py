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
    """One business that meters its customers. A `test` tenant never has a live destination.

    lateness_seconds: how long after its period's end usage still counts, of metrics of which
                      nobody has said otherwise.
    """

    __tablename__ = "tenants"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id"),
        CheckConstraint("mode IN ('live', 'test')", name="mode"),
        CheckConstraint("lateness_seconds >= 0", name="lateness_seconds"),
    )

    tenant_id: Mapped[Key]
    name: Mapped[str | None] = mapped_column(Text)
    mode: Mapped[str] = mapped_column(Text)
    lateness_seconds: Mapped[int] = mapped_column(server_default=text("172800"))
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
    periods_closed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


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


class WidgetToken(Base):
    """What lets one customer's browser see that customer's usage, for minutes.

    metrics: only these are shown; None: all.
    origins: the pages that may show it; empty: it belongs to the first that asks.
    """

    __tablename__ = "widget_tokens"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "token_id"),
        # Not unique: the hash of 256 random bits needs no constraint to be one.
        Index(None, "token_sha256"),
        Index(None, "tenant_id", "customer_ref", "created_at"),
        Index(None, "expires_at"),
    )

    tenant_id: Mapped[Key]
    token_id: Mapped[Key]
    token_sha256: Mapped[bytes]
    customer_ref: Mapped[Key]
    metrics: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    origins: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[Instant]
    created_by: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[Instant]
    revoked_at: Mapped[Instant | None]


class WidgetFrame(Base):
    """One opening of the widget: a code that opens it once, and then the session's secret.

    secret_sha256: None until the code is spent.
    expires_at:    of the code; a session lives as long as its token.
    """

    __tablename__ = "widget_frames"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "code_sha256"),
        Index(None, "code_sha256"),
        Index(None, "secret_sha256"),
        Index(None, "made_at"),
    )

    tenant_id: Mapped[Key]
    code_sha256: Mapped[bytes]
    token_id: Mapped[Key]
    origin: Mapped[str] = mapped_column(Text)
    made_at: Mapped[Instant]
    expires_at: Mapped[Instant]
    secret_sha256: Mapped[bytes | None]
