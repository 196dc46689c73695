// The dialog with all labels of a model, which can be filtered.

import { byId, element, write } from "./element.js";
import { plural } from "./quantity.js";

let labels = [];

export async function showLabels(model) {
  labels = [];
  write(byId("labels-title"), `Labels of ${model || "the model"}`);
  write(byId("labels-note"), "Loading…");
  byId("labels-list").replaceChildren();
  byId("labels-filter").value = "";
  byId("labels-dialog").showModal();
  try {
    const response = await fetch(`models/${encodeURIComponent(model)}/labels`);
    const body = await response.json();
    if (!response.ok) return write(byId("labels-note"), body.detail);
    labels = body.labels;
    filter();
  } catch {
    write(byId("labels-note"), "The service cannot be reached.");
  }
}

function filter() {
  const wanted = byId("labels-filter").value.trim().toLowerCase();
  const found = labels.filter((label) => readable(label).toLowerCase().includes(wanted));
  byId("labels-list").replaceChildren(...found.map((label) => element("li", {}, readable(label))));
  write(byId("labels-note"), wanted ? `${found.length.toLocaleString("en")} of ${plural(labels.length, "label")}` : plural(labels.length, "label"));
}

const readable = (label) => label.replaceAll("_", " ");

byId("labels-filter").addEventListener("input", filter);
byId("labels-close").addEventListener("click", () => byId("labels-dialog").close());
