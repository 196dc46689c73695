// The OpenAPI document as a page: each operation with what it takes and answers, and a form that sends it.

import { byId, element } from "./element.js";

const answer = await fetch("openapi.json");
if (answer.ok) {
  const { paths } = await answer.json();
  byId("operations").replaceChildren(
    ...Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => shown(path, method.toUpperCase(), operation)),
    ),
  );
} else {
  byId("operations").replaceChildren(element("p", { role: "alert" }, `openapi.json answers ${answer.status}.`));
}

function shown(path, method, operation) {
  const statuses = Object.entries(operation.responses).flatMap(([status, { description }]) => [
    element("dt", {}, element("code", {}, status)),
    element("dd", {}, description),
  ]);
  const summary = element("summary", {}, element("code", {}, `${method} ${path}`), operation.summary);
  return element("details", { class: "operation", id: operation.operationId }, summary, ...form(path, method, operation), element("dl", {}, ...statuses));
}

function form(path, method, operation) {
  // An answer without an end can be watched, but not shown as one.
  if (operation.responses[200].content["text/event-stream"]) return [];
  const fields = operation.parameters.map(field);
  const content = operation.requestBody?.content ?? {};
  const body = "multipart/form-data" in content ? file(operation) : "application/json" in content ? text(operation) : null;
  const result = element("pre", { hidden: true, tabindex: "0", role: "region", "aria-live": "polite", "aria-label": `Answer of ${method} ${path}` });
  const submit = async (event) => {
    event.preventDefault();
    result.hidden = false;
    result.textContent = "…";
    result.textContent = await send(path, method, fields, body);
  };
  const inputs = [...fields, ...(body ? [body] : [])].map(({ label }) => label);
  return [element("form", { submit }, ...inputs, element("button", { class: "primary", type: "submit" }, "Try it")), result];
}

function field({ name, in: place, description = "", required, schema }) {
  const input = element("input", { name, required, type: schema.type === "integer" ? "number" : "text", min: schema.minimum, max: schema.maximum });
  return { name, place, input, label: element("label", {}, name, element("small", {}, description), input) };
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
  for (const { name, place, input } of given) {
    if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (place === "query") query.set(name, input.value);
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
    return "No answer: the service cannot be reached.";
  }
}
