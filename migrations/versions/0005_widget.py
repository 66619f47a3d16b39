"""The customer's widget: tokens, and the frames that they open"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "widget_tokens",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("token_id", sa.Text(collation="C"), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("metrics", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("origins", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "token_id", name=op.f("pk_widget_tokens")),
    )
    for columns in (
        ["token_sha256"],
        ["tenant_id", "customer_ref", "created_at"],
        ["expires_at"],
    ):
        name = op.f(f"ix_widget_tokens_{'_'.join(columns)}")
        op.create_index(name, "widget_tokens", columns, unique=False)
    op.create_table(
        "widget_frames",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("code_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("token_id", sa.Text(collation="C"), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "code_sha256", name=op.f("pk_widget_frames")),
    )
    for column in ("code_sha256", "secret_sha256", "made_at"):
        op.create_index(op.f(f"ix_widget_frames_{column}"), "widget_frames", [column], unique=False)
