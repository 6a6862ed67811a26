"use strict";
// Shows openapi.json. Everything from it, and from answers, goes into the page as text nodes only.

const byId = (id) => document.getElementById(id);

/** Return an element with attributes and children; strings become text. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

let description = null;

/** Follow a reference inside the description. */
function resolve(part) {
  if (!part || !part.$ref) return part;
  return part.$ref.slice(2).split("/").reduce((at, name) => at[name], description);
}

/** Return a schema in short words, such as `{key: string, ttl?: integer}`. */
function shape(schema, depth = 0) {
  schema = resolve(schema) || {};
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  if (schema.allOf) return shape(merged(schema.allOf), depth);
  if (schema.anyOf) return schema.anyOf.map((each) => shape(each, depth)).join(" | ");
  const types = [].concat(schema.type || "any");
  return types.map((type) => shapeOf(type, schema, depth)).join(" | ");
}

function shapeOf(type, schema, depth) {
  if (type === "array" && schema.prefixItems) {
    return `[${schema.prefixItems.map((each) => shape(each, depth)).join(", ")}]`;
  }
  if (type === "array") return `[${shape(schema.items, depth)}, …]`;
  if (type !== "object" || !schema.properties) return type;
  if (depth > 3) return "{…}";
  const required = new Set(schema.required || []);
  const pad = "  ".repeat(depth + 1);
  const lines = Object.entries(schema.properties).map(([name, field]) => {
    const mark = required.has(name) ? "" : "?";
    return `${pad}${name}${mark}: ${shape(field, depth + 1)}`;
  });
  return `{\n${lines.join(",\n")}\n${"  ".repeat(depth)}}`;
}

function merged(schemas) {
  const whole = { type: "object", properties: {}, required: [] };
  for (const each of schemas.map(resolve)) {
    Object.assign(whole.properties, each.properties);
    whole.required.push(...(each.required || []));
  }
  return whole;
}

/** Return what a body may look like: its required fields. */
function example(schema) {
  schema = resolve(schema) || {};
  if (schema.anyOf) return example(schema.anyOf[0]);
  if (schema.enum) return schema.enum[0];
  if (schema.type === "array") return [];
  if (schema.type === "object") {
    const names = schema.required || [];
    return Object.fromEntries(names.map((name) => [name, example(schema.properties[name])]));
  }
  return { integer: 1, number: 1, boolean: false }[schema.type] ?? "text";
}

function parametersTable(parameters) {
  if (!parameters.length) return null;
  const rows = parameters.map((each) =>
    make("tr", {},
      make("td", {}, make("code", {}, each.name), each.required ? " *" : ""),
      make("td", {}, each.in),
      make("td", {}, shape(each.schema)),
      make("td", {}, each.description || "")));
  return make("div", {}, make("h4", {}, "Parameters"), make("table", {}, ...rows));
}

function bodyPart(content) {
  if (!content) return null;
  const [type, media] = Object.entries(content)[0];
  const schema = resolve(media.schema) || {};
  const notes = Object.entries(schema.properties || {}).filter(([, field]) => field.description);
  const rows = notes.map(([name, field]) =>
    make("tr", {}, make("td", {}, make("code", {}, name)), make("td", {}, field.description)));
  return make("div", {},
    make("h4", {}, `Body, ${type}`),
    make("pre", {}, shape(schema)),
    rows.length ? make("table", {}, ...rows) : null);
}

function answersPart(responses) {
  const rows = Object.entries(responses).map(([status, response]) => {
    response = resolve(response);
    const cell = make("td", {}, response.description);
    for (const [type, media] of Object.entries(response.content || {})) {
      cell.append(make("pre", {}, status === "200" ? `${type}\n${shape(media.schema)}`
        : reasonsOf(media.schema)));
    }
    const headers = Object.keys(response.headers || {}).join(", ");
    return make("tr", {}, make("td", { class: `s${status[0]}` }, status), cell,
      make("td", {}, headers));
  });
  return make("div", {}, make("h4", {}, "Answers"), make("table", {}, ...rows));
}

function reasonsOf(schema) {
  const reason = schema.allOf ? merged(schema.allOf).properties.reason : null;
  return reason && reason.enum ? `reason: ${reason.enum.join(" | ")}` : shape(schema);
}

/** Return the form that tries a call. */
function tryPart(method, path, operation, parameters) {
  const fields = parameters.map((each) => {
    const input = make("input", { placeholder: each.in, "data-in": each.in, name: each.name });
    return make("label", {}, `${each.name} `, input);
  });
  const form = make("form", { class: "try", autocomplete: "off" }, make("h4", {}, "Try it"),
    ...fields);
  const content = (operation.requestBody || {}).content;
  if (content) {
    const [type, media] = Object.entries(content)[0];
    const text = make("textarea", { rows: 4, "data-type": type, "aria-label": "Body" });
    text.value = type === "application/json" ? JSON.stringify(example(media.schema), null, 2) : "";
    form.append(text);
  }
  const output = make("pre", { class: "answer", hidden: true });
  form.append(make("button", {}, `Send ${method}`), output);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(method, path, form, output);
  });
  return form;
}

function credentials(headers) {
  const way = byId("way").value;
  const secret = byId("secret").value;
  if (way === "bearer") headers.Authorization = `Bearer ${secret}`;
  if (way === "apiKey") headers["X-API-Key"] = secret;
  if (way === "basic") {
    const bytes = new TextEncoder().encode(`${byId("user").value}:${secret}`);
    headers.Authorization = `Basic ${btoa(String.fromCharCode(...bytes))}`;
  }
}

async function send(method, path, form, output) {
  const headers = {};
  const query = new URLSearchParams();
  for (const input of form.querySelectorAll("input")) {
    const place = input.dataset.in;
    if (place === "path") {
      path = path.replace(`{${input.name}}`, encodeURIComponent(input.value));
    } else if (input.value !== "") {
      if (place === "query") query.append(input.name, input.value);
      else headers[input.name] = input.value;
    }
  }
  credentials(headers);
  const text = form.querySelector("textarea");
  if (text) headers["Content-Type"] = text.dataset.type;
  const target = path.slice(1) + (query.size ? `?${query}` : "");
  output.hidden = false;
  output.textContent = "…";
  try {
    const answer = await fetch(target, { method, headers, body: text ? text.value : undefined });
    const lines = [`${answer.status} ${answer.statusText}`];
    answer.headers.forEach((value, name) => lines.push(`${name}: ${value}`));
    output.textContent = `${lines.join("\n")}\n\n${(await answer.text()).slice(0, 100000)}`;
  } catch (error) {
    output.textContent = String(error);
  }
}

function operationPart(method, path, operation) {
  const parameters = operation.parameters.map(resolve);
  const details = make("details", { class: "operation", "data-words":
    `${method} ${path} ${operation.summary}`.toLowerCase() });
  details.append(make("summary", {}, make("b", { class: method.toLowerCase() }, method), " ",
    make("code", {}, path), " ", operation.summary));
  details.addEventListener("toggle", () => {
    if (details.children.length > 1) return;
    details.append(...[parametersTable(parameters), bodyPart((operation.requestBody || {}).content),
      answersPart(operation.responses), tryPart(method, path, operation, parameters),
    ].filter((part) => part !== null));
  });
  return details;
}

function show() {
  byId("version").textContent = description.info.version;
  byId("about").textContent = description.info.description;
  for (const { name } of description.tags) {
    const id = `theme-${name.toLowerCase().replace(/\W+/g, "-")}`;
    byId("themes").append(make("a", { href: `#${id}` }, name));
    const section = make("section", { id }, make("h2", {}, name));
    for (const [path, methods] of Object.entries(description.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.tags.includes(name)) {
          section.append(operationPart(method.toUpperCase(), path, operation));
        }
      }
    }
    byId("operations").append(section);
  }
}

byId("way").addEventListener("change", () => {
  byId("user-field").hidden = byId("way").value !== "basic";
  byId("secret-field").hidden = byId("way").value === "";
});
byId("credentials").addEventListener("submit", (event) => event.preventDefault());
byId("find").addEventListener("input", () => {
  const words = byId("find").value.toLowerCase();
  for (const each of document.querySelectorAll(".operation")) {
    each.hidden = !each.dataset.words.includes(words);
  }
});

fetch("openapi.json")
  .then((answer) => answer.ok ? answer.json() : Promise.reject(new Error(`${answer.status}`)))
  .then((document) => { description = document; show(); })
  .catch((error) => { byId("about").textContent = `openapi.json could not be read: ${error}`; });
