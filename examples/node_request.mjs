// Sends an image to Sluice and prints its labels, most probable first: node node_request.mjs cat.jpg [URL]
//
// Node.js 20 or newer, without a package.

import { readFile } from "node:fs/promises";
import { basename } from "node:path";

const [path, url = "http://127.0.0.1:5000"] = process.argv.slice(2);
const form = new FormData();
form.append("image", new Blob([await readFile(path)]), basename(path));
// If the service asks for API keys, this variable has yours.
const key = process.env.SLUICE_API_KEY;
const headers = key ? { Authorization: `Bearer ${key}` } : {};
// Longer than the deadline of the service (30 s by default), so that the service answers first.
const response = await fetch(`${url}/predict`, { method: "POST", headers, body: form, signal: AbortSignal.timeout(60_000) });
const body = await response.json();
if (body.success && body.values) {
  body.values.forEach((value, index) => console.log(`${index + 1}. value ${index}: ${value.toFixed(4)}`)); // a regression or an embedding
} else if (body.success) {
  body.predictions.forEach(({ label, probability }, index) => console.log(`${index + 1}. ${label}: ${probability.toFixed(4)}`));
} else {
  console.error(`node_request.mjs: ${response.status} ${body.title}: ${body.detail}`);
  process.exitCode = 1;
}
