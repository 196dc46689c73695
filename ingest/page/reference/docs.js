// The API reference: the OpenAPI document as a page, with examples and a form for each operation.

import { copy } from "./curl.js";
import { isStream, requestExamples, responseExamples } from "./docs_examples.js";
import { byId, element } from "./element.js";

function show(api) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const [group] = operation.tags;
      groups.set(group, [...(groups.get(group) ?? []), details(api, path, method.toUpperCase(), operation)]);
    }
  }
  const known = api.tags.filter(({ name }) => groups.has(name));
  byId("groups").replaceChildren(...known.map(({ name }) => element("a", { href: `docs#${anchor(name)}` }, name)));
  byId("operations").replaceChildren(...known.map(({ name }) =>
    element("section", { id: anchor(name), "aria-label": name }, element("h2", {}, name), ...groups.get(name))));
}

const anchor = (name) => name.toLowerCase().replaceAll(" ", "-");

// The body of an operation is made when it is first opened: most are never opened.
function details(api, path, method, operation) {
  const summary = element("summary", {}, element("code", {}, `${method} ${path}`), ` ${operation.summary}`);
  const made = element("details", { class: "operation", id: operation.operationId }, summary);
  const open = () => {
    if (made.childElementCount > 1) return;
    made.append(element("div", { class: "operation-body" },
      element("div", {}, ...form(path, method, operation), element("h3", {}, "Responses"), statuses(operation)),
      element("div", {}, ...examples(api, path, method, operation))));
  };
  summary.addEventListener("click", open);
  made.addEventListener("toggle", open); // also when a search of the browser opens it
  return made;
}

function statuses({ responses }) {
  return element("dl", {}, ...Object.entries(responses).flatMap(([status, { description }]) => [
    element("dt", {}, element("code", {}, status)),
    element("dd", {}, description),
  ]));
}

function examples(api, path, method, operation) {
  const requests = requestExamples(api, path, method, operation);
  const shown = element("pre", { tabindex: "0", role: "region", "aria-label": `Example request of ${method} ${path}` });
  const buttons = requests.map(({ name, text }) => {
    const button = element("button", { type: "button", role: "tab" }, name);
    button.addEventListener("click", () => {
      shown.textContent = text;
      buttons.forEach((one) => one.setAttribute("aria-selected", String(one === button)));
    });
    return button;
  });
  buttons[0].click();
  const copying = element("button", { class: "quiet", type: "button" }, "Copy");
  copying.addEventListener("click", () => copy(shown.textContent, copying));
  const head = element("div", { class: "example-head" }, element("h3", {}, "Example request"), copying);
  const tabs = element("div", { class: "tabs", role: "tablist", "aria-label": "Language" }, ...buttons);
  return [head, tabs, shown, ...responseExamples(api, operation).flatMap(({ status, text }) => [
    element("h3", {}, `Example response, ${status}`),
    element("pre", { tabindex: "0", role: "region", "aria-label": `Example response ${status} of ${method} ${path}` }, text),
  ])];
}

function form(path, method, operation) {
  // A stream without an end cannot be shown as one response.
  if (isStream(operation)) return [];
  const fields = operation.parameters.map(field);
  const content = operation.requestBody?.content ?? {};
  const body = "multipart/form-data" in content ? file(operation) : "application/json" in content ? text(operation) : null;
  const result = element("pre", { class: "result", hidden: true, tabindex: "0", role: "region", "aria-live": "polite", "aria-label": `Response of ${method} ${path}` });
  const submit = async (event) => {
    event.preventDefault();
    result.hidden = false;
    result.textContent = "…";
    result.textContent = await send(path, method, fields, body);
  };
  const inputs = [...fields, ...(body ? [body] : [])].map(({ label }) => label);
  return [element("h3", {}, "Try it"), element("form", { submit }, ...inputs, element("button", { class: "primary", type: "submit" }, "Send")), result];
}

function field({ name, in: location, description = "", required, schema }) {
  const input = element("input", { name, required, type: schema.type === "integer" ? "number" : "text", min: schema.minimum, max: schema.maximum });
  return { name, location, input, label: element("label", {}, name, element("small", {}, description), input) };
}

function file({ requestBody }) {
  const input = element("input", { type: "file", name: "image", accept: "image/*", multiple: true, required: true });
  const value = () => {
    const body = new FormData();
    for (const one of input.files) body.append("image", one, one.name);
    return [body, {}];
  };
  return { value, label: element("label", {}, "image", element("small", {}, requestBody.description), input) };
}

function text({ requestBody }) {
  const input = element("textarea", { rows: "5", required: requestBody.required });
  const value = () => [input.value || undefined, { "Content-Type": "application/json" }];
  return { value, label: element("label", {}, "JSON", element("small", {}, requestBody.description), input) };
}

async function send(path, method, fields, body) {
  const given = fields.filter(({ input }) => input.value);
  const [data, headers] = body ? body.value() : [undefined, {}];
  const query = new URLSearchParams();
  for (const { name, location, input } of given) {
    if (location === "path") path = path.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (location === "query") query.set(name, input.value);
    else headers[name] = input.value;
  }
  try {
    const url = new URL(`.${path}${query.size ? `?${query}` : ""}`, document.baseURI);
    const got = await fetch(url, { method, headers, body: data });
    const shownHeaders = [...got.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    const whole = await got.text();
    const json = got.headers.get("Content-Type")?.includes("json");
    return `${got.status} ${got.statusText}\n${shownHeaders}\n\n${json ? JSON.stringify(JSON.parse(whole), null, 2) : whole}`;
  } catch {
    return "No response: the service cannot be reached.";
  }
}

const response = await fetch("openapi.json");
if (response.ok) show(await response.json());
else byId("operations").replaceChildren(element("p", { role: "alert" }, `openapi.json returned ${response.status}.`));
