import { render } from "preact";
import { useEffect, useState } from "preact/hooks";

interface Event {
  id: number;
  timestamp: string;
  message: string;
}

function Events() {
  const [events, setEvents] = useState<Event[] | null>(null);
  useEffect(() => {
    void fetch("api/events").then(async (answer) => setEvents((await answer.json()) as Event[]));
  }, []);
  return (
    <main>
      <h1>Events</h1>
      {events === null ? "Loading…" : events.map((event) => <p key={event.id}>{event.timestamp} {event.message}</p>)}
    </main>
  );
}

const root = document.getElementById("app");
if (root) render(<Events />, root);
