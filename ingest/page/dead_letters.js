// The list of dead letters, with the reason of each and a button that replays it.

import { announce, byId, element, write } from "./element.js";
import { duration, plural } from "./quantity.js";

let shown = "";

export function deadLetters({ model, now_ms, dead_letters, newest_dead_letters: newest, webhooks, dead_webhooks }) {
  write(byId("webhooks-note"), webhooks || dead_webhooks ? `Webhooks: ${webhooks} waiting, ${dead_webhooks} given up` : "");
  byId("no-dead-letters").hidden = dead_letters > 0;
  const more = dead_letters > newest.length ? `the newest ${newest.length} of ` : "";
  write(byId("dead-letters-note"), dead_letters ? `${more}${plural(dead_letters, "image")} given up` : "");
  const list = byId("dead-letters");
  const now = newest.map(({ id }) => id).join();
  if (now !== shown) list.replaceChildren(...newest.toReversed().map((deadLetter) => item(model, deadLetter)));
  shown = now;
  for (const row of list.children) write(row.querySelector("time"), `${duration(Math.max(0, now_ms - row.dataset.at) / 1000)} ago`);
}

function item(model, { id, failed_ms, reason, deliveries, holders, replayable }) {
  const button = element("button", { type: "button", "aria-label": `Replay dead letter ${id}` }, "Replay");
  button.addEventListener("click", () => replay(model, id, button));
  const about = element("small", {}, element("time"), ` · ${plural(deliveries, "delivery").replace("ys", "ies")}`);
  const text = element("div", {}, element("p", { title: holders.length ? `Held by ${holders.join(", ")}` : "" }, reason), about);
  return element("li", { "data-at": failed_ms }, text, ...(replayable ? [button] : []));
}

async function replay(model, id, button) {
  button.disabled = true;
  try {
    const response = await fetch(`dead-letters/${model}/${id}/replay`, { method: "POST" });
    const body = await response.json();
    announce(response.ok ? "The dead letter is queued again." : body.detail);
    button.textContent = response.ok ? "Queued" : "Failed";
    if (!response.ok) button.title = body.detail;
  } catch {
    button.disabled = false;
    announce("The service cannot be reached.");
  }
}
