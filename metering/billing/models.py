"""What is kept of questions about prices: saved scenarios."""

from sqlalchemy import CheckConstraint, PrimaryKeyConstraint, Text
from sqlalchemy.orm import Mapped, mapped_column

from metering.database import Base, Instant, JsonText, Key


class Simulation(Base):
    """A saved scenario: prices side by side, or one invoice's input. Nothing is billed from it.

    document: the JSON text that was saved, digits as they were sent.
    """

    __tablename__ = "simulations"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        CheckConstraint("kind IN ('comparison', 'invoice')", name="kind"),
    )

    tenant_id: Mapped[Key]
    id: Mapped[Key]
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    document: Mapped[str] = mapped_column(JsonText)
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]
