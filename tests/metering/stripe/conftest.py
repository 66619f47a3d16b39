"""A tenant with an account, a meter and a mapping, and a Stripe that takes what is sent."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from tests.stripe_setup import Connected, FakeStripe, add_mapping, add_meter, connect

# When the tenant of most tests is connected.
AT = datetime(2026, 11, 10, 12, 30, tzinfo=UTC)


@pytest.fixture
def acme(session: Session) -> Connected:
    made = connect(session, now=AT)
    add_meter(session, made, "api_calls")
    add_mapping(session, made)
    return made


@pytest.fixture
def stripe() -> FakeStripe:
    return FakeStripe()
