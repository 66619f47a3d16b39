# Shared by the examples: where the server is, how to ask it, how to read what it answers.
# Needs bash, curl and python3. Sourced, not run.

URL="${STRIPEMETER_URL:-http://localhost:3000}"
TENANT="${TENANT:-demo}"
HEADERS=(-H "Content-Type: application/json")
if [[ -n "${STRIPEMETER_API_KEY:-}" ]]; then
    HEADERS+=(-H "Authorization: Bearer ${STRIPEMETER_API_KEY}")
fi

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# call METHOD PATH [BODY]: print the answer; anything but a 200 ends the script.
call() {
    local method=$1 path=$2 answer status
    answer=$(curl -sS --max-time 10 -w '\n%{http_code}' -X "$method" "${HEADERS[@]}" \
        ${3:+-d "$3"} "$URL$path") || fail "no answer from $URL; is StripeMeter running there?"
    status=${answer##*$'\n'}
    answer=${answer%$'\n'"$status"}
    answer=${answer%$'\n'}
    [[ $status == 200 ]] || fail "$method $path was answered with $status: $answer"
    printf '%s\n' "$answer"
}

# send METRIC CUSTOMER QUANTITY TS KEY [RESOURCE]: send one event, print the answer.
send() {
    call POST /v1/events/ingest "$(python3 -c '
import json, sys
tenant, metric, customer, quantity, ts, key, *resource = sys.argv[1:]
event = {"tenantId": tenant, "metric": metric, "customerRef": customer,
         "quantity": quantity, "ts": ts, "idempotencyKey": key}
if resource:
    event["resourceId"] = resource[0]
print(json.dumps({"events": [event]}))' "$TENANT" "$@")"
}

# read_json EXPRESSION: a Python expression over the answer `a` that stands on standard input.
read_json() {
    python3 -c '
import json, sys
try:
    a = json.load(sys.stdin)
    print(eval(sys.argv[1]))
except (ValueError, KeyError, IndexError, TypeError) as error:
    sys.exit(f"FAILED: the answer has another form than expected: {error!r}")' "$1"
}

# status_of ANSWER: what became of the one event of a batch.
status_of() {
    read_json 'a["results"][0]["status"]' <<<"$1"
}

# month_of CUSTOMER MONTH_START: the customer's projection of that month.
month_of() {
    call POST /v1/usage/projection "$(python3 -c '
import json, sys
print(json.dumps(dict(zip(("tenantId", "customerRef", "periodStart"), sys.argv[1:]))))' \
        "$TENANT" "$1" "$2")"
}

# counted METRIC CUSTOMER MONTH_START: wait, 15 seconds at most, until nothing of it is waiting
# to be counted; print the quantity.
counted() {
    local answer quantity deadline=$((SECONDS + 15))
    while ((SECONDS < deadline)); do
        answer=$(month_of "$2" "$3") || exit 1
        quantity=$(read_json "next((line['quantity'] for line in a['lineItems']
            if line['metric'] == '$1' and not line['unfolded']), '')" <<<"$answer") || exit 1
        if [[ -n $quantity ]]; then
            echo "$quantity"
            return
        fi
        sleep 0.2
    done
    fail "$1 of $2 was not counted within 15 seconds; are the worker and the clock running?"
}
