#!/usr/bin/env bash
# Check that a gauge read by `last` follows event time: 5, 8, a late 7 and a retry make 8.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

customer="cus_seats_$(date +%s)_$$"

answers=$(CUSTOMER=$customer KEY=$customer "$(dirname "${BASH_SOURCE[0]}")/send.sh")
statuses=$(while read -r answer; do status_of "$answer" || exit 1; done <<<"$answers" | xargs)
[[ $statuses == "accepted accepted accepted duplicate" ]] ||
    fail "three readings and a retry were answered with: $statuses."

quantity=$(counted seats "$customer" 2025-01-01T00:00:00Z)
[[ $quantity == 8 ]] || fail "the seats read $quantity; the latest reading by its own time is 8."

echo "OK: $customer has 8 seats: the late reading and the retry changed nothing."
