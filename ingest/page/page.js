// Connects the parts of the page: images become cards, snapshots update the live view.

import { card } from "./card.js";
import { copy, curl } from "./curl.js";
import { byId, element, write } from "./element.js";
import { onImages } from "./image_input.js";
import { forget, show } from "./live.js";
import { showLabels } from "./labels.js";
import { follow } from "./snapshots.js";

const MAX_CARDS = 60;
const WORDS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting…" };

let several = false;
let chosen = false; // Whether the visitor chose the model. The page changes only its own choice.
let settled = false; // Whether the page chose a model with a living consumer since it connected.
let key = false; // Whether the service requires an API key.
let lastName = "cat.jpg";

// With several models, the path names the chosen one.
const path = () => (several ? `predict/${byId("models").value}` : "predict");

function showCommand() {
  write(byId("curl"), curl(path(), lastName, { key }));
}

onImages((files) => {
  for (const file of files) byId("cards").prepend(card(path(), file));
  while (byId("cards").children.length > MAX_CARDS) byId("cards").lastChild.remove();
  lastName = files.at(-1).name;
  showCommand();
});

byId("copy").addEventListener("click", () => copy(byId("curl").textContent, byId("copy")));
byId("show-labels").addEventListener("click", () => showLabels(byId("models").value));
byId("models").addEventListener("change", () => {
  chosen = true;
  forget();
  showCommand();
});

const isServed = (model) => model.consumers.some(({ state }) => state !== "dead");

// Redis knows models that are no longer served. The first one that is served is shown, unless the visitor chose.
function choose(models) {
  const select = byId("models");
  const texts = models.map((one) => (isServed(one) ? one.model : `${one.model} (not served)`));
  if ([...select.options].map(({ text }) => text).join() !== texts.join()) list(models, texts);
  const served = models.find(isServed);
  if (!chosen && !settled && served) {
    settled = true;
    if (select.value !== served.model) {
      select.value = served.model;
      forget();
      showCommand();
    }
  }
  return models.find(({ model }) => model === select.value);
}

function list(models, texts) {
  const select = byId("models");
  const before = select.value;
  select.replaceChildren(...models.map(({ model }, index) => element("option", { value: model }, texts[index])));
  if (models.some(({ model }) => model === before)) select.value = before;
  else chosen = settled = false;
  several = models.length > 1;
  byId("models-label").classList.toggle("hidden", !several);
  showCommand();
}

function showServing(model) {
  const alive = model.consumers.filter(({ state }) => state !== "dead");
  const versions = [...new Set(alive.map(({ version }) => version))].sort((one, other) => one - other);
  write(byId("serving"), versions.length ? `${several ? "" : model.model + " · "}version ${versions.join(", ")}` : "");
}

// During an outage the figures are those of before. They must not look like the present ones.
function showAge(past) {
  byId("live").classList.toggle("past", past);
  write(byId("live-note"), past ? "as it was before the outage" : "all processes together");
}

function onState(state) {
  if (state === "reconnecting") {
    settled = false; // Another service may answer next.
    showAge(true);
  }
  byId("connection").dataset.state = state;
  write(byId("connection").lastChild, WORDS[state]);
}

function onSnapshot(snapshot) {
  if (snapshot.requests.keys !== key) {
    key = snapshot.requests.keys;
    showCommand();
  }
  const model = snapshot.models ? choose(snapshot.models) : undefined;
  if (model) showServing(model);
  showAge(Boolean(snapshot.outage));
  show(snapshot, model, snapshot.models?.some(isServed));
}

showCommand();
follow("live", onSnapshot, onState);
