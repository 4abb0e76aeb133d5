#!/usr/bin/env bash
# Deploys a release: migrates, then restarts and tests one collector after the other. Stops at the first failure.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: deploy.sh --migrate COMMAND --restart COMMAND URL [URL ...]

Runs the migration. Then, for one collector (URL) after the other: restarts it, waits until its /readyz returns 200,
and runs the smoke test against it. Stops at the first failure; the collectors that were not restarted still run the
previous release, which works with the new schema.

  --migrate COMMAND  Upgrade the schema, e.g. 'brain-events migrate'; 'true' skips this step.
  --restart COMMAND  Restart one collector. {url} and {n} (1, 2, ...) are replaced by its URL and its number, e.g.
                     'ssh host{n} systemctl restart brain-events', 'docker compose up --detach --no-deps collector-{n}'
  --smoke COMMAND    Test one collector; its URL is appended as the last argument. [default: tests/smoke/smoke.sh]
  --wait SECONDS     Maximum time for a collector to become ready. [default: 120]
  -h, --help         Show this message and exit.

The smoke test uses the API key in BRAIN_EVENTS_API_KEY.
USAGE
}

fail() {
    printf 'deploy.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

# ready URL SECONDS: returns 0 if /readyz returns 200 within that time.
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
        *) fail "'$1' is neither an option nor a URL; see --help" 2 ;;
    esac
done
[[ -n $MIGRATE && -n $RESTART ]] || fail "--migrate and --restart are required; see --help" 2
((${#URLS[@]})) || fail "no URL given: name the URL of each collector; see --help" 2
[[ $WAIT_S =~ ^[0-9]+$ ]] || fail "--wait is '$WAIT_S', must be a whole number of seconds" 2

printf '== migrate: %s\n' "$MIGRATE"
bash -c "$MIGRATE" || fail "the migration failed; no collector was restarted, all of them run the previous release"

for index in "${!URLS[@]}"; do
    url=${URLS[index]}
    number=$((index + 1))
    position="$number of ${#URLS[@]}"
    command=${RESTART//'{url}'/$url}
    command=${command//'{n}'/$number}
    printf '== collector %s, %s: %s\n' "$position" "$url" "$command"
    bash -c "$command" || fail "collector $position ($url) could not be restarted; later ones were left unchanged"
    ready "$url" "$WAIT_S" ||
        fail "collector $position ($url) was not ready within $WAIT_S s: see $url/readyz and its log; later ones were left unchanged"
    bash -c "$SMOKE \"\$1\"" smoke "$url" || fail "the smoke test failed on collector $position ($url); later ones were left unchanged"
done
printf '== deployed to %d\n' "${#URLS[@]}"
