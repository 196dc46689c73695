// The live view: shows each snapshot in the tiles, the table of consumers, the batch sizes and the dead letters.

import { Chart } from "./chart.js";
import { consumers } from "./consumers.js";
import { deadLetters } from "./dead_letters.js";
import { announce, byId, element, write } from "./element.js";
import { duration, milliseconds, plural, rate } from "./quantity.js";
import { release } from "./release.js";
import { Trouble } from "./trouble.js";

const tile = (id, chart) => {
  const node = byId(id);
  const part = (name) => node.querySelector(`[data-${name}]`);
  return { node, figure: part("figure"), note: part("note"), unit: part("unit"), chart: new Chart(node.querySelector(".plot"), chart) };
};

const tiles = {
  rate: tile("tile-rate", { classes: ["first"], label: "Images classified per second" }),
  queue: tile("tile-queue", { classes: ["first"], label: "Waiting images", least: 8 }),
  latency: tile("tile-latency", { classes: ["first", "second", "third"], label: "Latency, median, 95th and 99th percentile, in ms", least: 10 }),
  responses: tile("tile-responses", { classes: ["first", "refusals"], label: "Responses and refusals per second" }),
};

const trouble = new Trouble();
let known = new Set();

export function forget() {
  trouble.forget();
  Object.values(tiles).forEach(({ chart }) => chart.clear());
}

// `model` is the shown model's part of the snapshot, undefined if there is none; `serving`: some model is served.
export function show(snapshot, model, serving) {
  const at_s = performance.now() / 1000;
  const found = trouble.find(snapshot, model, serving);
  showTrouble(found);
  showRequests(snapshot.requests, at_s);
  if (!model) return;
  showRate(model, at_s);
  showQueue(model, at_s, found.some(({ key }) => key === "growth"));
  release(model);
  consumers(model);
  deadLetters(model);
}

function showTrouble(found) {
  const list = byId("trouble");
  list.hidden = !found.length;
  list.replaceChildren(...found.map(({ text, level }) => element("li", { class: level }, text)));
  const fresh = found.filter(({ key }) => !known.has(key));
  if (fresh.length) announce(fresh.map(({ text }) => text).join(" "));
  known = new Set(found.map(({ key }) => key));
  document.title = found.some(({ level }) => level === "bad") ? "● Trouble – Sluice" : "Sluice";
}

function showRate({ images_per_s, capacity_per_s }, at_s) {
  write(tiles.rate.figure, rate(images_per_s));
  write(tiles.rate.note, capacity_per_s ? `capacity ${rate(capacity_per_s)}/s` : "no consumer is running");
  tiles.rate.chart.push(at_s, [images_per_s], { limit: capacity_per_s || null, text: rate });
}

// Each class has a limit of its own; that of bulk images counts only while such wait.
function showQueue({ backlog, classes: { interactive, bulk }, oldest_s, drain_s }, at_s, grows) {
  const most = interactive.limit + (bulk.backlog ? bulk.limit : 0);
  const full = interactive.backlog >= interactive.limit || bulk.backlog >= bulk.limit;
  write(tiles.queue.figure, backlog.toLocaleString("en"));
  write(tiles.queue.unit, backlog === 1 ? "image" : "images");
  const drained = drain_s === null ? "no consumer is running" : `done in ${duration(drain_s)}`;
  const parts = bulk.backlog
    ? [`${interactive.backlog.toLocaleString("en")} interactive`, `${bulk.backlog.toLocaleString("en")} bulk`, drained]
    : [`oldest ${duration(oldest_s ?? 0)}`, drained];
  write(tiles.queue.note, backlog ? parts.join(" · ") : `room for ${most.toLocaleString("en")}`);
  tiles.queue.node.classList.toggle("bad", full);
  tiles.queue.node.classList.toggle("warn", grows && !full);
  tiles.queue.chart.push(at_s, [backlog], { limit: most });
}

function showRequests(requests, at_s) {
  write(tiles.latency.figure, milliseconds(requests.p50_ms));
  const tail = `p95 ${milliseconds(requests.p95_ms)} · p99 ${milliseconds(requests.p99_ms)}`;
  write(tiles.latency.note, requests.p50_ms === null ? "no response in the last minute" : tail);
  tiles.latency.chart.push(at_s, [requests.p50_ms, requests.p95_ms, requests.p99_ms], { text: milliseconds });
  write(tiles.responses.figure, rate(requests.answered_per_s));
  showResponses(requests);
  tiles.responses.chart.push(at_s, [requests.answered_per_s, requests.refused_per_s], { text: rate });
  showBatches(requests.batches);
}

function showResponses({ refused_per_s, statuses }) {
  const count = (first, last) => Object.entries(statuses).reduce((sum, [status, times]) => sum + (status >= first && status <= last ? times : 0), 0);
  const refused = (statuses[503] ?? 0) + (statuses[429] ?? 0);
  const failed = count(500, 599) - (statuses[503] ?? 0);
  const parts = [`${count(200, 299).toLocaleString("en")} succeeded`];
  if (refused) parts.push(`${refused.toLocaleString("en")} refused`);
  if (failed) parts.push(`${failed.toLocaleString("en")} failed`);
  const text = refused || failed || count(200, 299) ? `last minute: ${parts.join(" · ")}` : "none in the last minute";
  write(tiles.responses.note, text);
  tiles.responses.note.classList.toggle("bad", refused_per_s > 0 || failed > 0);
}

const GROUPS = [[1, 1], [2, 2], [3, 4], [5, 8], [9, 16], [17, 32], [33, Infinity]];

function showBatches(batches) {
  const counts = GROUPS.map(([first, last]) =>
    Object.entries(batches).reduce((sum, [size, times]) => sum + (size >= first && size <= last ? times : 0), 0));
  const most = Math.max(1, ...counts);
  const rows = GROUPS.map(([first, last], index) => [first === last ? `${first}` : last === Infinity ? `> ${first - 1}` : `${first}–${last}`, counts[index]]);
  if (!rows.at(-1)[1]) rows.pop();
  const list = byId("batches");
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(([name, count], index) => {
    const row = list.children[index] ?? list.appendChild(batchRow());
    write(row.children[0], name);
    row.querySelector("i").style.width = `${(count / most) * 100}%`;
    write(row.children[2], count.toLocaleString("en"));
  });
}

function batchRow() {
  return element("li", {}, element("span"), element("span", { class: "bar", "aria-hidden": "true" }, element("i")), element("span"));
}
