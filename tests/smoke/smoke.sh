#!/usr/bin/env bash
# Smoke test of a running collector, against any URL: 12 steps, a tick each, a summary, an exit code.
#
#   tests/smoke/smoke.sh [URL]          default http://127.0.0.1:8001
#   BRAIN_EVENTS_API_KEY                its key, where it has one
#
# Every event it creates is deleted at the end, also when a step fails. Needs bash, curl and python3.
set -uo pipefail

URL=${1:-http://127.0.0.1:8001}
URL=${URL%/}
RUN=smoke_$$_$RANDOM # the event type that marks this run's events
PASSED=0
FAILED=0
STATUS=
BODY=

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    GREEN=$'\e[32m' RED=$'\e[31m' BOLD=$'\e[1m' PLAIN=$'\e[0m'
else
    GREEN='' RED='' BOLD='' PLAIN=''
fi

# ask METHOD PATH [JSON]: sets STATUS and BODY. The key goes in by a file: arguments can be seen by every user.
ask() {
    local answer data=()
    if (($# > 2)); then data=(-H 'Content-Type: application/json' --data-binary "$3"); fi
    answer=$(curl --silent --show-error --max-time 30 --request "$1" --write-out '\n%{http_code}' \
        --config <([[ -z ${BRAIN_EVENTS_API_KEY:-} ]] ||
            printf 'header = "Authorization: Bearer %s"\n' "$BRAIN_EVENTS_API_KEY") \
        "${data[@]}" "$URL$2") || true
    STATUS=${answer##*$'\n'}
    BODY=${answer%$'\n'*}
}

# json EXPRESSION: evaluates Python over the last body, as `body`; prints what it gives.
json() {
    python3 -c 'import json, sys; body = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$BODY" "$1" 2>/dev/null
}

# holds STATUS [EXPRESSION]: whether the last answer has that status and the expression is true of its body.
holds() {
    [[ $STATUS == "$1" ]] && { (($# == 1)) || [[ $(json "$2") == True ]]; }
}

# step NUMBER NAME FUNCTION: runs it and prints a tick or a cross.
step() {
    if "$3"; then
        PASSED=$((PASSED + 1))
        printf '%s✓%s %2d %s\n' "$GREEN" "$PLAIN" "$1" "$2"
    else
        FAILED=$((FAILED + 1))
        printf '%s✗%s %2d %s\n     last answer: %s %s\n' "$RED" "$PLAIN" "$1" "$2" "${STATUS:-none}" "${BODY:0:200}"
    fi
}

# clean_up: deletes every event of this run, in pages, and says so if it cannot.
clean_up() {
    local id left
    while :; do
        ask GET "/api/events?event_type=$RUN&limit=100"
        left=$(json '" ".join(str(event["id"]) for event in body)')
        if [[ $STATUS != 200 || -z $left ]]; then break; fi
        for id in $left; do
            ask DELETE "/api/events/$id"
            if [[ $STATUS != 204 && $STATUS != 404 ]]; then break 2; fi
        done
    done
    if [[ $STATUS != 200 ]]; then printf 'clean-up failed: events of type %s may be left\n' "$RUN" >&2; fi
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

FULL='{"event_type": "'$RUN'", "severity": "warning", "message": "Deployed", "source": "ci_cd_pipeline",
  "details": {"version": "1.0.0", "environment": "production", "warnings": ["Deprecated API usage detected"]}}'
BEFORE=
MINIMAL=
FULL_ID=

initial_statistics() {
    ask GET /api/events/stats
    BEFORE=$(json 'body["total_events"]')
    holds 200 '{"total_events", "events_by_severity", "events_by_type", "recent_events", "last_event_timestamp"} <= set(body)'
}

create_minimal() {
    ask POST /api/events '{"event_type": "'"$RUN"'", "severity": "info", "message": "minimal"}'
    MINIMAL=$(json 'body["id"]')
    holds 201 'body["message"] == "minimal" and body["details"] is None and bool(body["timestamp"])'
}

create_full() {
    ask POST /api/events "$FULL"
    FULL_ID=$(json 'body["id"]')
    holds 201 'body["details"]["warnings"] == ["Deprecated API usage detected"] and body["source"] == "ci_cd_pipeline"'
}

get_by_id() {
    ask GET "/api/events/$FULL_ID"
    holds 200 "body['id'] == ${FULL_ID:-0} and body['details']['version'] == '1.0.0'"
}

list_all() {
    ask GET '/api/events?limit=10'
    holds 200 '0 < len(body) <= 10'
}

filter_by_type() {
    ask GET "/api/events?event_type=$RUN"
    holds 200 "[event['id'] for event in body] == [${FULL_ID:-0}, ${MINIMAL:-0}]"
}

filter_by_severity() {
    ask GET "/api/events?event_type=$RUN&severity=warning"
    holds 200 "[event['id'] for event in body] == [${FULL_ID:-0}]"
}

update() {
    ask PUT "/api/events/$MINIMAL" '{"severity": "error"}'
    holds 200 'body["severity"] == "error" and body["message"] == "minimal"' || return
    ask GET "/api/events/$MINIMAL"
    holds 200 'body["severity"] == "error"'
}

all_severities() {
    local severity
    for severity in info warning error critical; do
        ask POST /api/events '{"event_type": "'"$RUN"'", "severity": "'$severity'", "message": "each"}'
        holds 201 "body['severity'] == '$severity'" || return
    done
}

final_statistics() {
    ask GET /api/events/stats
    holds 200 "body['events_by_type']['$RUN'] == 6 and body['total_events'] >= ${BEFORE:-0} + 6"
}

delete() {
    ask DELETE "/api/events/$MINIMAL"
    holds 204 || return
    ask GET "/api/events/$MINIMAL"
    holds 404
}

validation_errors() {
    ask POST /api/events '{"event_type": "'"$RUN"'", "severity": "odd", "message": "m"}'
    holds 422 || return
    ask POST /api/events '{"event_type": "'"$RUN"'"}'
    holds 422 || return
    ask GET /api/events/no-number
    holds 422
}

printf '%sSmoke test of %s%s\n' "$BOLD" "$URL" "$PLAIN"
step 1 'initial statistics' initial_statistics
step 2 'create a minimal event' create_minimal
step 3 'create a full event with details' create_full
step 4 'get an event by id' get_by_id
step 5 'list events' list_all
step 6 'filter by type' filter_by_type
step 7 'filter by severity' filter_by_severity
step 8 'update an event' update
step 9 'every severity' all_severities
step 10 'final statistics' final_statistics
step 11 'delete an event' delete
step 12 'validation errors' validation_errors

if ((FAILED)); then
    printf '%s%d passed, %d failed%s\n' "$RED" "$PASSED" "$FAILED" "$PLAIN"
    exit 1
fi
printf '%s%d passed%s\n' "$GREEN" "$PASSED" "$PLAIN"
