"""Passkeys: their public keys, the challenges that were used, and which session a passkey opened."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "passkey",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("business_id", sa.Text(), nullable=True),
        sa.Column("business_name", sa.Text(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("key_hash", sa.Text(), nullable=True),
        sa.Column("user_handle", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("transports", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("refused_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkey")),
    )
    op.create_index("ix_passkey_credential", "passkey", ["credential_id"], unique=True)
    op.create_index("ix_passkey_business", "passkey", ["business_id"], unique=False)
    op.create_index("ix_passkey_key", "passkey", ["key_hash"], unique=False)
    op.create_table(
        "passkey_challenge",
        sa.Column("challenge", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("challenge", name=op.f("pk_passkey_challenge")),
    )
    op.create_index("ix_passkey_challenge_expires", "passkey_challenge", ["expires_at"], unique=False)
    op.add_column("console_session", sa.Column("confirmed", sa.Integer(), server_default="0", nullable=False))
    op.add_column("console_session", sa.Column("passkey_id", sa.Text(), nullable=True))
    op.create_index("ix_console_session_passkey", "console_session", ["passkey_id"], unique=False)
