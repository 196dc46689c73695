// Prints the example requests of /docs as JSON, and what the one in JavaScript printed: node docs_examples.mjs URL KEY IMAGE
//
// The model is loaded first and unloaded last, so that all of them can be sent again.

import { readFile } from "node:fs/promises";

const [url, key, image] = process.argv.slice(2);
globalThis.document = { baseURI: `${url}/` };
const { isStream, requestExamples } = await import("../../../ingest/page/reference/docs_examples.js");
const file = new File([await readFile(image)], "cat.jpg");
const api = await (await fetch(`${url}/openapi.json`, { headers: { "X-API-Key": key } })).json();

async function printed(text) {
  const lines = [];
  const run = Object.getPrototypeOf(printed).constructor("key", "file", "console", text);
  await run(key, file, { log: (...words) => lines.push(words.join(" ")) });
  return lines.join("\n");
}

const order = ({ path }) => (path.endsWith("/load") ? 0 : path.endsWith("/unload") ? 2 : 1);
const operations = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => {
  const texts = Object.fromEntries(requestExamples(api, path, method.toUpperCase(), operation).map(({ name, text }) => [name, text]));
  return { method, path, stream: isStream(operation), texts };
})).sort((one, other) => order(one) - order(other));
for (const one of operations) if (!one.stream) one.printed = await printed(one.texts.JavaScript);
console.log(JSON.stringify(operations));
