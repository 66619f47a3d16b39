"""Which segments the push jobs are to look at, for whatever changes counters; in SQL.

`metering.stripe.unsent` owns the table and says more of it; the fold and the corrections write to
it too, in the transaction in which the numbers change.
"""

# Metrics and modes in which they have somewhere to go. A test tenant never has a live destination.
DESTINATIONS = """
    SELECT DISTINCT m.metric, way.mode
    FROM mappings m
    CROSS JOIN LATERAL (VALUES ('live', m.is_active), ('test', m.is_shadow)) AS way (mode, is_on)
    WHERE m.tenant_id = %(tenant_id)s AND way.is_on
      AND coalesce(m.meter_event_name, m.meter_id, m.price_id, m.shadow_price_id) IS NOT NULL
      AND (way.mode = 'test' OR EXISTS (
          SELECT 1 FROM tenants t WHERE t.tenant_id = %(tenant_id)s AND t.mode = 'live'))
"""
