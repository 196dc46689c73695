// The table of consumers. Rows are changed in place, so that a selection stays.

import { byId, element, write } from "./element.js";
import { duration, plural, rate } from "./quantity.js";

const COLUMNS = ["State", "Host", "Model", "Provider", "Images/s", "Last batch", "Held", "Claimed"];

const rows = new Map();

export function consumers({ model, consumers: all }) {
  const body = byId("consumers");
  const names = new Set(all.map(({ name }) => name));
  for (const [name, row] of rows) {
    if (!names.has(name)) {
      row.remove();
      rows.delete(name);
    }
  }
  all.forEach((one, index) => {
    if (!rows.has(one.name)) rows.set(one.name, fresh(one.name));
    const row = rows.get(one.name);
    fill(row, one, model);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
  });
  byId("no-consumers").hidden = all.length > 0;
  const alive = all.filter(({ state }) => state !== "dead").length;
  write(byId("consumers-note"), all.length ? `${alive} of ${plural(all.length, "consumer")} alive` : "");
}

function fresh(name) {
  const cells = COLUMNS.map((column, index) => {
    const text = index ? element("span") : element("span", { class: "state" }, element("span", { class: "dot" }), element("span"));
    return element("td", { role: "cell", class: index > 3 ? "number" : "", "data-name": column }, text, element("small"));
  });
  return element("tr", { role: "row", "data-name": name }, ...cells);
}

function fill(row, one, model) {
  const texts = [
    [one.state, one.state === "dead" ? silence(one) : ""],
    [one.host ?? "unknown", one.pid ? `process ${one.pid}` : one.name],
    [model, one.version ? `version ${one.version}${one.passed_over ? `, passes over ${one.passed_over}` : ""}` : ""],
    [(one.provider ?? "–").replace("ExecutionProvider", ""), ""],
    [rate(one.images_per_s), one.capacity_per_s && one.state !== "dead" ? `of ${rate(one.capacity_per_s)}` : ""],
    [one.last_batch ?? "–", ""],
    [one.held, ""],
    [one.reclaimed ?? "–", ""],
  ];
  row.className = one.state;
  row.title = one.name;
  texts.forEach(([text, small], index) => {
    const cell = row.children[index];
    write(index ? cell.firstChild : cell.querySelector(".state").lastChild, String(text));
    write(cell.querySelector("small"), small);
  });
}

const silence = ({ silent_s }) => (silent_s === null ? "no longer listed" : `for ${duration(silent_s)}`);
