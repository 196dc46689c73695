// Example requests in curl, Python and JavaScript, and example responses, made from the OpenAPI document.

// Values by the names of properties. What paths name, such as the model that is served, has an example in the document.
const VALUES = {
  label: "tiger_cat", probability: 0.372,
  id: "0dc4e132ea6449a0a3e49e0b06f4aa32", filename: "cat.jpg", location: "/results/0dc4e132ea6449a0a3e49e0b06f4aa32", labels: ["tabby", "tiger_cat"],
  detail: "What was wrong, and what to do.", height: 224, width: 224,
};

// Which of these properties is the name of a model, and which the name of a version.
const NAMES = { model: "model", model_name: "model", name: "model", version: "version", model_version: "version" };

// [{name: "curl" | "Python" | "JavaScript", text}, ...]
export function requestExamples(api, path, method, operation) {
  const named = operation.parameters.filter((one) => one.in === "path");
  const url = new URL(`.${named.reduce((filled, { name, example }) => filled.replace(`{${name}}`, example ?? name), path)}`, document.baseURI).href;
  const request = { url, method, keys: Boolean(operation.security?.length), stream: isStream(operation), ...body(api, operation) };
  return [
    { name: "curl", text: curl(request) },
    { name: "Python", text: python(request) },
    { name: "JavaScript", text: javascript(request) },
  ];
}

// Whether the response has no end.
export const isStream = ({ responses }) => Boolean(responses[200]?.content?.["text/event-stream"]);

// The first successful response, and the first problem.
export function responseExamples(api, { responses }) {
  return Object.entries(responses).flatMap(([status, { content = {} }]) => {
    const type = Object.keys(content).find((one) => one.includes("json"));
    if (!type || (Number(status) >= 400 && status !== firstProblem(responses))) return [];
    const [example] = Object.values(content[type].examples ?? {});
    return [{ status, text: JSON.stringify(example?.value ?? sample(api, content[type].schema, "", Number(status)), null, 2) }];
  });
}

const firstProblem = (responses) => Object.keys(responses).find((status) => Number(status) >= 400);

function body(api, { requestBody }) {
  const content = requestBody?.content ?? {};
  if ("multipart/form-data" in content) return { form: true };
  if ("application/json" in content) return { json: content["application/json"].example ?? {} };
  return {};
}

function curl({ url, method, keys, stream, form, json }) {
  const words = [stream ? "curl -N" : "curl"];
  if (keys) words.push('-H "X-API-Key: $SLUICE_API_KEY"');
  if (form) words.push("-F image=@cat.jpg");
  else if (method !== "GET" && json === undefined) words.push(`-X ${method}`);
  if (json !== undefined) words.push(`--json '${JSON.stringify(json)}'`);
  return [...words, url].join(" \\\n  ");
}

function python({ url, method, keys, stream, form, json }) {
  const options = [JSON.stringify(url)];
  if (form) options.push('files={"image": image}');
  if (json !== undefined) options.push(`json=${asPython(json)}`);
  if (keys) options.push('headers={"X-API-Key": os.environ["SLUICE_API_KEY"]}');
  if (stream) options.push("stream=True");
  const call = `response = requests.${method.toLowerCase()}(${options.join(", ")})`;
  const lines = [...(keys ? ["import os", ""] : []), "import requests", ""];
  lines.push(...(form ? ['with open("cat.jpg", "rb") as image:', `    ${call}`] : [call]));
  lines.push(...(stream ? ["for line in response.iter_lines():", "    print(line.decode(), flush=True)"] : ["print(response.status_code, response.text)"]));
  return lines.join("\n");
}

const asPython = (value) => JSON.stringify(value).replace(/\btrue\b/g, "True").replace(/\bfalse\b/g, "False").replace(/\bnull\b/g, "None");

function javascript({ url, method, keys, stream, form, json }) {
  const headers = [...(keys ? ['"X-API-Key": key'] : []), ...(json === undefined ? [] : ['"Content-Type": "application/json"'])];
  const options = [...(method === "GET" ? [] : [`method: "${method}"`]), ...(headers.length ? [`headers: { ${headers.join(", ")} }`] : [])];
  if (form) options.push("body");
  if (json !== undefined) options.push(`body: JSON.stringify(${JSON.stringify(json)})`);
  const call = `const response = await fetch("${url}"${options.length ? `, { ${options.join(", ")} }` : ""});`;
  const lines = form ? ["const body = new FormData();", 'body.append("image", file); // from <input type="file">', call] : [call];
  lines.push(...(stream ? [
    "const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();",
    "for (let read = await reader.read(); !read.done; read = await reader.read()) console.log(read.value);",
  ] : ["console.log(response.status, await response.text());"]));
  return lines.join("\n");
}

// The example of the first path that names it: the model that is served, and its version.
function served(api, name) {
  const parameters = Object.values(api.paths).flatMap((methods) => Object.values(methods).flatMap((one) => one.parameters));
  return parameters.find((one) => one.in === "path" && one.name === name)?.example ?? name;
}

// A value that fits the schema, with what it must have. `name` is that of the property; `status` fills in the status of a problem.
function sample(api, schema, name, status) {
  if (!schema) return undefined;
  if (schema.$ref) return sample(api, schema.$ref.slice(2).split("/").reduce((part, key) => part[key], api), name, status);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((one) => sample(api, one, name, status)));
  if ("const" in schema) return schema.const;
  if (schema.examples) return schema.examples[0];
  if (name in VALUES && typeof VALUES[name] === kind(schema)) return VALUES[name];
  if (schema.type === "string" && NAMES[name]) return served(api, NAMES[name]);
  if (name === "status" && schema.type === "integer" && status) return status;
  if (schema.enum) return schema.enum[0];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return sample(api, choices[0], name, status);
  if (schema.type === "array") return [sample(api, schema.items ?? {}, name.replace(/s$/, ""), status)].filter((one) => one !== undefined);
  if (schema.type === "object" || schema.properties) {
    return Object.fromEntries(Object.entries(schema.properties ?? {}).filter(([key]) => !schema.required || schema.required.includes(key)).map(([key, one]) => [key, sample(api, one, key, status)]));
  }
  return { integer: schema.minimum ?? 1, number: 0.5, boolean: true, string: "…" }[schema.type] ?? null;
}

const kind = ({ type }) => ({ integer: "number", array: "object" })[type] ?? type;
