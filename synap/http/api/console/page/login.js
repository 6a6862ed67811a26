// Who asks: a user with a password, or an API key, kept in memory until the tab is closed.

import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { call, Failure, forget, useKey, usePassword } from "./client.js";
import { useTask } from "./polling.js";
import { Choice, Trouble } from "./parts.js";

/**
 * @param {{onIn: (name: string) => void, refused: boolean}} props `refused` where credentials that
 *   worked do so no more.
 */
export function Login({ onIn, refused }) {
  const [way, setWay] = useState("password");
  const [user, setUser] = useState("");
  const [secret, setSecret] = useState("");
  const task = useTask();
  const form = useRef(null);
  useEffect(() => form.current.querySelector("input").focus(), [way]);
  const submit = (event) => {
    event.preventDefault();
    task.run(async () => onIn(await enter(way, user, secret)));
  };
  return html`<main class="alone login">
    <h1>Synap</h1>
    ${refused && !task.failure && html`<p role="alert">The node no longer takes your credentials. Log in again.</p>`}
    <form ref=${form} onSubmit=${submit}>
      <${Choice} label="Log in with" value=${way} onChange=${setWay}
        options=${[["password", "User and password"], ["key", "API key"]]} />
      ${way === "password" && html`<label>User
        <input name="username" autocomplete="username" required value=${user}
          onInput=${(event) => setUser(event.target.value)} /></label>`}
      <label>${way === "password" ? "Password" : "API key"}
        <input name="secret" type="password" required value=${secret}
          autocomplete=${way === "password" ? "current-password" : "off"}
          onInput=${(event) => setSecret(event.target.value)} /></label>
      <button class="main" disabled=${task.busy}>Log in</button>
    </form>
    <${Trouble} failure=${task.failure} />
    <p class="soft">The credentials stay in this tab's memory and go to this node alone.</p>
  </main>`;
}

/** Return the name of whom the credentials belong to. */
async function enter(way, user, secret) {
  if (way === "key") useKey(secret);
  else usePassword(user, secret);
  try {
    return (await call("auth/me")).username;
  } catch (failure) {
    forget();
    if (failure.status === 401) {
      const what = way === "key" ? "API key" : "user and password";
      throw new Failure(401, "not_authenticated", `The node does not know this ${what}.`);
    }
    throw failure;
  }
}
