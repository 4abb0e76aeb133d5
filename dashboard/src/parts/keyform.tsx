// Asks for an API key. The collector keeps it in a cookie that scripts cannot read.
import { useState } from "preact/hooks";
import { beginSession, lapsed } from "../api/client";
import { asProblem } from "../lib/response";
import { Mark } from "./header";

const LAPSED = "The API key is no longer valid. It has expired or was revoked.";

export function KeyForm() {
  const [apiKey, setApiKey] = useState("");
  const [error, setError] = useState(lapsed.value ? LAPSED : "");
  const signIn = (submitted: Event): void => {
    submitted.preventDefault();
    beginSession(apiKey).catch((refusal: unknown) => setError(asProblem(refusal).message));
  };
  return (
    <main class="lock">
      <form onSubmit={signIn}>
        <h1>
          <Mark /> brain-events
        </h1>
        <label for="key">API key</label>
        <input
          id="key"
          type="password"
          autocomplete="off"
          aria-describedby="key-hint"
          required
          value={apiKey}
          onInput={(typed) => setApiKey(typed.currentTarget.value)}
        />
        <p id="key-hint" class="dim">
          Requires the <code>read</code> scope.
        </p>
        <button type="submit">Sign in</button>
        {error && <p role="alert">{error}</p>}
      </form>
    </main>
  );
}
