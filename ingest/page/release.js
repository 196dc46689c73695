// The panel of a release: which versions take the requests, and how the candidate compares.

import { byId, element, write } from "./element.js";
import { milliseconds, plural } from "./quantity.js";

const percent = (part) => `${(100 * part).toLocaleString("en", { maximumFractionDigits: 2 })} %`;

export function release({ release: found }) {
  const panel = byId("release");
  panel.hidden = !found;
  if (!found) {
    byId("release-figures").replaceChildren();
    return;
  }
  write(byId("release-note"), found.candidate ? `version ${found.candidate} is on trial` : `version ${found.stable} is the stable one`);
  byId("release-figures").replaceChildren(...lines(found).map((text) => element("li", {}, text)));
}

function lines({ stable, candidate, share, shadow, sent, fallbacks, compared, agreement, largest, mean_s, dropped, failed }) {
  const made = candidate
    ? [share ? `Version ${candidate} takes ${percent(share)} of the requests, version ${stable} all others.` : "", shadow ? `Version ${candidate} is the shadow of version ${stable}.` : ""]
    : [`Version ${stable} takes all images.`];
  const counts = Object.entries(sent).map(([version, count]) => `${plural(count, "request")} to ${version === "any" ? "any version" : `version ${version}`}`);
  if (counts.length) made.push(`Sent: ${counts.join(", ")}.`);
  if (fallbacks) made.push(`${plural(fallbacks, "request")} sent to another version, because no consumer of the wanted one was ready.`);
  if (compared) made.push(`Both agree on ${percent(agreement)} of ${plural(compared, "image")}. Largest difference ${largest.toPrecision(3)}, mean time ${milliseconds(1000 * mean_s)} ms.`);
  if (dropped || failed) made.push(`${plural(dropped, "image")} not compared because of the load, ${failed} failed.`);
  return made.filter(Boolean);
}
