"""The database, bound to the app by `create_app`. The models know nothing of it."""

from flask_sqlalchemy import SQLAlchemy

import metering.billing.models
import metering.catalog.mirror
import metering.catalog.models
import metering.counters.models
import metering.ledger.models
import metering.stripe.models
import metering.tenancy.models
from metering.database import Base

# Importing a model module is what puts its tables into the metadata.
MODEL_MODULES = (
    metering.billing.models,
    metering.catalog.mirror,
    metering.catalog.models,
    metering.counters.models,
    metering.ledger.models,
    metering.stripe.models,
    metering.tenancy.models,
)

db = SQLAlchemy(metadata=Base.metadata)
