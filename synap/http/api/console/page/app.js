// The page: who asks, which room is shown, and the frame around it.

import { html, render, useEffect, useErrorBoundary, useState } from "./vendor/preact.js";
import { useHistory } from "./charts/history.js";
import { forget, onRefused, settingsOfPage } from "./client.js";
import { Login } from "./login.js";
import { cut } from "./format.js";
import { ROOMS } from "./rooms.js";
import { Trouble } from "./parts.js";

/** Return the room and the rest that an address names, as in `#keys/user:1`. */
function placeOf(hash) {
  const [, room, , rest] = /^#?([a-z]*)(\/(.*))?$/s.exec(hash) ?? [];
  let argument = "";
  try {
    argument = decodeURIComponent(rest ?? "");
  } catch {
    argument = "";
  }
  return { hash, room: ROOMS.some(({ name }) => name === room) ? room : ROOMS[0].name, argument };
}

function usePlace() {
  const [place, setPlace] = useState(placeOf(location.hash));
  useEffect(() => {
    const look = () => setPlace((old) => (old.hash === location.hash ? old : placeOf(location.hash)));
    addEventListener("hashchange", look);
    // Who is quick has gone on before the page listens.
    look();
    return () => removeEventListener("hashchange", look);
  }, []);
  return place;
}

function Frame({ settings, user, onOut }) {
  const { room, argument } = usePlace();
  const history = useHistory();
  const { title, Room } = ROOMS.find(({ name }) => name === room);
  useEffect(() => {
    document.title = `${title} · Synap`;
  }, [title]);
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <span class="brand">Synap</span>
      <nav aria-label="Rooms">
        ${ROOMS.map((each) => html`<a key=${each.name} href=${`#${each.name}`}
          aria-current=${each.name === room ? "page" : undefined}>${each.title}</a>`)}
      </nav>
      <span class="who">
        ${user && html`<span>${user}</span> <button class="quiet" onClick=${onOut}>Log out</button>`}
        ${!settings.write && html`<span class="soft" title="console.write is false">read-only</span>`}
      </span>
    </header>
    <main id="main" tabindex="-1">
      <h1>${title}</h1>
      <${Whole} key=${room}><${Room} settings=${settings} argument=${argument} history=${history} /></${Whole}>
    </main>`;
}

/** A room, or why it can't be shown: an answer that is none of this program's must not end the page. */
function Whole({ children }) {
  const [error, again] = useErrorBoundary();
  if (!error) return children;
  const failure = { message: "The node answered something that this page can't show.", facts: {}, reason: "", status: 0 };
  return html`<${Trouble} failure=${failure} again=${again}>
    <p class="soft">The node and this page may be of different versions: load the page anew. (${cut(String(error), 200)})</p>
  </${Trouble}>`;
}

/** Move the focus without a change of the address, which names the room. */
function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function App() {
  const [settings, setSettings] = useState(null);
  const [failure, setFailure] = useState(null);
  const [user, setUser] = useState("");
  const [refused, setRefused] = useState(false);
  useEffect(() => {
    settingsOfPage().then(setSettings, setFailure);
    return onRefused(() => setUser((old) => {
      if (old) setRefused(true);
      return "";
    }));
  }, []);
  const leave = () => {
    forget();
    setRefused(false);
    setUser("");
  };
  if (failure) return html`<div class="alone"><${Trouble} failure=${failure} again=${() => location.reload()} /></div>`;
  if (!settings) return html`<p class="alone">Loading …</p>`;
  if (settings.login && !user) return html`<${Login} onIn=${setUser} refused=${refused} />`;
  return html`<${Frame} settings=${settings} user=${user} onOut=${leave} />`;
}

const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
