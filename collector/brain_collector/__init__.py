"""The collector: persists events in Postgres, answers queries over HTTP, logs its own health as events."""
