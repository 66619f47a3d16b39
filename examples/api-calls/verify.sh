#!/usr/bin/env bash
# Check that an event sent twice under one key counts once, and in the month in which it occurred.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

customer="cus_verify_$(date +%s)_$$"
january=2025-01-01T00:00:00Z

answers=$(CUSTOMER=$customer KEY=$customer-1 "$(dirname "${BASH_SOURCE[0]}")/send.sh")
{ read -r first && read -r second; } <<<"$answers"
[[ $(status_of "$first") == accepted ]] || fail "the first answer was not 'accepted': $first"
[[ $(status_of "$second") == duplicate ]] || fail "the second answer was not 'duplicate': $second"

quantity=$(counted api_calls "$customer" "$january")
[[ $quantity == 100 ]] || fail "100 calls sent twice under one key count as $quantity, not as 100."
sleep 1 # time for a second counting, if there were one
quantity=$(counted api_calls "$customer" "$january")
[[ $quantity == 100 ]] || fail "the count rose to $quantity after it had been 100."

elsewhere=$(month_of "$customer" 2025-02-01T00:00:00Z | read_json 'len(a["lineItems"])')
[[ $elsewhere == 0 ]] || fail "usage of January 2025 also stands in February 2025."

echo "OK: sent twice, counted once: 100 api_calls of $customer in January 2025."
