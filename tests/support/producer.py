"""An application: logs N events through the SDK, waits for the last answer, and prints its account.

python producer.py NAME N
"""

import sys

import msgspec

import brain_events

TYPES = ("deployment", "request", "job", "login", "payment")
SEVERITIES = ("info", "warning", "error", "critical")


def main(name: str, n: int) -> None:
    """Log, flush, print the statistics as JSON."""
    brain_events.init(source=name)
    for number in range(n):
        brain_events.log_system_event(
            TYPES[number % len(TYPES)],
            SEVERITIES[number % 7 % len(SEVERITIES)],
            f"event {number}",
            {"number": number, "name": name, "ok": True},
        )
    brain_events.flush(120)
    sys.stdout.write(msgspec.json.encode(brain_events.stats()).decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
