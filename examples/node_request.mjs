// Sends an image to Sluice and prints its labels, most probable first: node node_request.mjs cat.jpg [URL]
//
// Node.js 20 or newer, without a package.

import { readFile } from "node:fs/promises";
import { basename } from "node:path";

async function classify(path, url) {
  const form = new FormData();
  form.append("image", new Blob([await readFile(path)]), basename(path));
  // If the service asks for API keys, this variable has yours.
  const key = process.env.SLUICE_API_KEY;
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  // Longer than the deadline of the service (30 s by default), so that the service answers first.
  const response = await fetch(`${url}/predict`, { method: "POST", headers, body: form, signal: AbortSignal.timeout(60_000) });
  const body = await response.json();
  if (!body.success) throw new Error(`${response.status} ${body.title}: ${body.detail}`);
  // A regression or an embedding has values.
  if (body.values) return body.values.map((value, index) => `value ${index}: ${value.toFixed(4)}`);
  return body.predictions.map(({ label, probability }) => `${label}: ${probability.toFixed(4)}`);
}

const [path, url = "http://127.0.0.1:5000"] = process.argv.slice(2);
try {
  if (!path) throw new Error("name an image: node node_request.mjs cat.jpg [URL]");
  (await classify(path, url)).forEach((line, index) => console.log(`${index + 1}. ${line}`));
} catch (error) {
  console.error(`node_request.mjs: ${error.message}${error.cause ? `: ${url}: ${error.cause.code ?? error.cause.message}` : ""}`);
  process.exitCode = 1;
}
