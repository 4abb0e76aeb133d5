#!/usr/bin/env bash
# Rolls out a release: migrates, restarts the collectors one after the other, tests each. Stops at the first failure.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: deploy.sh --migrate COMMAND --restart COMMAND URL [URL ...]

Runs the migration; then, one collector (URL) after the other: restarts it, waits until its /readyz answers 200,
and runs the smoke test against it. Stops at the first failure: the collectors that were not reached still run
the release before, which works on the new schema.

  --migrate COMMAND  brings the schema up to date, e.g. 'brain-events migrate'; 'true' for none
  --restart COMMAND  restarts one collector; {url} and {n} (1, 2, ...) stand for it, e.g.
                     'ssh host{n} systemctl restart brain-events', 'docker compose up --detach --no-deps collector-{n}'
  --smoke COMMAND    tests one collector; gets its URL as last argument [default: tests/smoke/smoke.sh]
  --wait SECONDS     how long a collector may take to be ready [default: 120]
  -h, --help         show this

The environment's BRAIN_EVENTS_API_KEY is used by the smoke test.
USAGE
}

fail() {
    printf 'deploy.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

# ready URL SECONDS: whether /readyz answers 200 within that time.
ready() {
    local until=$((SECONDS + $2))
    until curl --silent --output /dev/null --fail --max-time 5 "$1/readyz"; do
        ((SECONDS < until)) || return 1
        sleep 0.2
    done
}

MIGRATE='' RESTART='' WAIT_S=120
SMOKE=$(cd "$(dirname "$0")/.." && pwd)/tests/smoke/smoke.sh
URLS=()

while (($#)); do
    case $1 in
        -h | --help) usage && exit ;;
        --migrate | --restart | --smoke | --wait)
            (($# > 1)) || fail "$1 needs a value; see --help" 2
            case $1 in
                --migrate) MIGRATE=$2 ;;
                --restart) RESTART=$2 ;;
                --smoke) SMOKE=$2 ;;
                --wait) WAIT_S=$2 ;;
            esac
            shift 2
            ;;
        http://* | https://*) URLS+=("${1%/}") && shift ;;
        *) fail "'$1' is no option and no URL; see --help" 2 ;;
    esac
done
[[ -n $MIGRATE && -n $RESTART ]] || fail "--migrate and --restart are needed; see --help" 2
((${#URLS[@]})) || fail "name the URL of each collector; see --help" 2
[[ $WAIT_S =~ ^[0-9]+$ ]] || fail "--wait is '$WAIT_S', must be a whole number of seconds" 2

printf '== migrate: %s\n' "$MIGRATE"
bash -c "$MIGRATE" || fail "the migration failed; no collector was restarted, all run the release before"

for index in "${!URLS[@]}"; do
    url=${URLS[index]}
    number=$((index + 1))
    rest="$number of ${#URLS[@]}"
    command=${RESTART//'{url}'/$url}
    command=${command//'{n}'/$number}
    printf '== collector %s, %s: %s\n' "$rest" "$url" "$command"
    bash -c "$command" || fail "collector $rest ($url) could not be restarted; those after it were not touched"
    ready "$url" "$WAIT_S" ||
        fail "collector $rest ($url) was not ready within $WAIT_S s: look at $url/readyz and its log; those after it were not touched"
    bash -c "$SMOKE \"\$1\"" smoke "$url" || fail "the smoke test failed on collector $rest ($url); those after it were not touched"
done
printf '== deployed to %d\n' "${#URLS[@]}"
