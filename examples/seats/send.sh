#!/usr/bin/env bash
# Report a seat count as it changes: 5, then 8, then a reading of 7 that comes late, then 8 again
# as a retry. `last` follows the time of the reading, not of its arrival.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

customer="${CUSTOMER:-cus_example}"
run="${KEY:-seats-$(date +%s)-$$}"

call PUT /v1/metrics/seats "{\"tenantId\": \"$TENANT\", \"aggregation\": \"last\", \"unit\": \"seat\"}" >/dev/null

send seats "$customer" 5 2025-01-10T09:00:00Z "$run-1" workspace-1
send seats "$customer" 8 2025-01-20T09:00:00Z "$run-2" workspace-1
send seats "$customer" 7 2025-01-15T09:00:00Z "$run-3" workspace-1
send seats "$customer" 8 2025-01-20T09:00:00Z "$run-2" workspace-1
