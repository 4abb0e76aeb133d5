// Asks for the API key; it goes into a cookie that scripts cannot read.
import { useState } from "preact/hooks";
import { beginSession, lapsed } from "../api/client";
import { asProblem } from "../lib/answer";

const LAPSED = "The API key is no longer good: it was revoked, or has expired.";

export function KeyForm() {
  const [key, setKey] = useState("");
  const [why, setWhy] = useState(lapsed.value ? LAPSED : "");
  const open = (submitted: Event): void => {
    submitted.preventDefault();
    beginSession(key).catch((error: unknown) => setWhy(asProblem(error).message));
  };
  return (
    <main class="lock">
      <form onSubmit={open}>
        <h1>brain-events</h1>
        <label for="key">API key with the scope read</label>
        <input
          id="key"
          type="password"
          autocomplete="off"
          required
          value={key}
          onInput={(typed) => setKey(typed.currentTarget.value)}
        />
        <button type="submit">Open</button>
        {why && <p role="alert">{why}</p>}
      </form>
    </main>
  );
}
