// The page, wired: photographs become cards, snapshots become the live view.

import { card } from "./card.js";
import { copy, curl } from "./curl.js";
import { byId, element, write } from "./element.js";
import { forget, show } from "./live.js";
import { onPhotographs } from "./photographs.js";
import { follow } from "./stream.js";

const MOST_CARDS = 60;
const WORDS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting…" };

let several = false;
let key = false; // Whether the service asks for one.
let lastName = "cat.jpg";

// With one model the path that always works; with several, that of the chosen one.
const path = () => (several ? `predict/${byId("models").value}` : "predict");

function showCommand() {
  write(byId("curl"), curl(path(), lastName, { key }));
}

onPhotographs((files) => {
  for (const file of files) byId("cards").prepend(card(path(), file));
  while (byId("cards").children.length > MOST_CARDS) byId("cards").lastChild.remove();
  lastName = files.at(-1).name;
  showCommand();
});

byId("copy").addEventListener("click", () => copy(byId("curl").textContent, byId("copy")));
byId("models").addEventListener("change", () => {
  forget();
  showCommand();
});

function choose(models) {
  const select = byId("models");
  const names = models.map(({ model }) => model);
  if ([...select.options].map(({ value }) => value).join() !== names.join()) {
    const before = select.value;
    select.replaceChildren(...names.map((name) => element("option", {}, name)));
    if (names.includes(before)) select.value = before;
    several = names.length > 1;
    byId("models-label").classList.toggle("hidden", !several);
    showCommand();
  }
  return models.find(({ model }) => model === select.value);
}

function showServing(model) {
  const alive = model.consumers.filter(({ state }) => state !== "dead");
  const versions = [...new Set(alive.map(({ version }) => version))].sort((one, other) => one - other);
  write(byId("serving"), versions.length ? `${several ? "" : model.model + " · "}version ${versions.join(", ")}` : "");
}

function onState(state) {
  byId("connection").dataset.state = state;
  write(byId("connection").lastChild, WORDS[state]);
}

function onSnapshot(snapshot) {
  if (snapshot.here.keys !== key) {
    key = snapshot.here.keys;
    showCommand();
  }
  const model = snapshot.models ? choose(snapshot.models) : undefined;
  if (model) showServing(model);
  show(snapshot, model);
}

showCommand();
follow("live", onSnapshot, onState);
