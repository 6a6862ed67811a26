// Lists of what the node knows, each asked for when it is opened.

import { html, useEffect, useState } from "../vendor/preact.js";
import { call } from "../client.js";
import { ago, bytes, number } from "../format.js";
import { useTask } from "../polling.js";
import { Badge, Empty, Trouble } from "../parts.js";

/** A list that is fetched when it is opened, and again when asked for. */
function List({ title, ask, children }) {
  const [isOpen, setOpen] = useState(false);
  const [value, setValue] = useState(null);
  const task = useTask();
  const load = () => task.run(async () => setValue(await ask()));
  useEffect(() => {
    if (isOpen) load();
  }, [isOpen]);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary>${title}</summary>
    <${Trouble} failure=${task.failure} />
    ${isOpen && html`<p class="tools"><button disabled=${task.busy} onClick=${load}>Ask again</button></p>`}
    ${value ? children(value) : task.busy && html`<p>Loading …</p>`}
  </details>`;
}

/** @param {{heads: string[], rows: any[][], empty: string}} props */
function Table({ heads, rows, empty }) {
  if (!rows.length) return html`<${Empty}>${empty}</${Empty}>`;
  return html`<div class="scrolled" tabindex="0" role="region" aria-label=${heads.join(", ")}><table>
    <thead><tr>${heads.map((head) => html`<th scope="col" key=${head}>${head}</th>`)}</tr></thead>
    <tbody>${rows.map((row, at) => html`<tr key=${at}>${row.map((cell, column) => html`<td class="name" key=${column}>${cell}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}

export function Lists() {
  return html`
    <${List} title="Slow requests" ask=${() => call("slowlog")}>${slowLog}</${List}>
    <${List} title="Connections" ask=${() => call("clients")}>${clients}</${List}>
    <${List} title="Users and API keys" ask=${askAccounts}>${accounts}</${List}>
    <${List} title="Configuration in effect" ask=${() => call("config")}>${configuration}</${List}>`;
}

const slowLog = ({ entries, total }) => html`
  <${Table} heads=${["When", "Took", "Request", "Id"]} empty="No request was slow."
    rows=${entries.map(({ timestamp, duration_us, command, args, request_id }) => [
      ago(timestamp * 1000), `${number(Math.round(duration_us / 1000))} ms`, shownRequest(command, args), request_id])} />
  ${total > entries.length && html`<p class="soft">The newest ${entries.length} of ${number(total)}.</p>`}`;

/** Its path with its query, as it was sent. */
const shownRequest = (command, args) => `${command.split(" ")[0]} ${args[0] ?? ""}`;

const clients = ({ clients: found }) => html`<${Table} heads=${["Address", "Worker", "Unread", "Unsent"]}
  empty="Nobody is connected." rows=${found.map(({ address, worker, unread_bytes, unsent_bytes }) => [
    address, worker ?? "waits", bytes(unread_bytes), bytes(unsent_bytes)])} />`;

async function askAccounts() {
  const [{ users }, { keys }] = await Promise.all([call("auth/users"), call("auth/keys")]);
  return { users, keys };
}

const accounts = ({ users, keys }) => html`
  <${Table} heads=${["User", "Roles", "State"]} empty="There are no users."
    rows=${users.map(({ username, roles, is_admin, enabled }) => [
      username, [...roles, is_admin && !roles.includes("admin") && "admin"].filter(Boolean).join(", ") || "none",
      html`<${Badge} kind=${enabled ? "plain" : "warn"}>${enabled ? "enabled" : "disabled"}</${Badge}>`])} />
  <${Table} heads=${["API key", "Owner", "May", "From", "Expires"]} empty="There are no API keys."
    rows=${keys.map(({ name, username, permissions, allowed_ips, expires_at }) => [
      name, username, permissions ? permissions.map(({ action, resource }) => `${action} ${resource}`).join(", ") : "what its owner may",
      allowed_ips.join(", ") || "everywhere", expires_at ? new Date(expires_at * 1000).toLocaleString("en-GB") : "never"])} />`;

const configuration = (config) => html`<${Table} heads=${["Key", "Value"]} empty="" rows=${flat(config)} />`;

/** Return rows of keys with their sections. */
function flat(values, before = "") {
  return Object.entries(values).flatMap(([name, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? flat(value, `${before}${name}.`)
      : [[before + name, shownValue(value)]]);
}

function shownValue(value) {
  if (value === null || value === "" || (Array.isArray(value) && !value.length)) return html`<span class="soft">not set</span>`;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
