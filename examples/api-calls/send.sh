#!/usr/bin/env bash
# Send one event twice under one key: the first is accepted, the second is a duplicate.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

customer="${CUSTOMER:-cus_example}"
key="${KEY:-api-calls-$(date +%s)-$$}"

for _ in first second; do
    send api_calls "$customer" 100 2025-01-16T14:30:00Z "$key"
done
