// The card of one image: its thumbnail at once, its labels when they arrive.

import { classify } from "./classify.js";
import { copy, curl } from "./curl.js";
import { announce, element } from "./element.js";
import { milliseconds, plural } from "./quantity.js";

export function card(path, file) {
  const body = element("div", { class: "body" });
  const command = element("button", { class: "quiet", type: "button" }, "Copy as curl");
  command.addEventListener("click", () => copy(curl(path, file.name), command));
  const head = element("div", { class: "card-head" }, element("h3", { class: "card-name", title: file.name }, file.name), command);
  const made = element("li", { class: "card" }, thumbnail(file), head, body);
  if (isImage(file)) run(path, file, made, body);
  else showProblem(file, made, body, NOT_AN_IMAGE);
  return made;
}

const MAX_VALUES = 10;

const NOT_AN_IMAGE = { kind: "failed", title: "Not an image", detail: "Choose a JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF file." };

// The type is the browser's guess from the file's name. Without a guess, the service decides.
const isImage = ({ type }) => type === "" || type.startsWith("image/");

function showProblem(file, made, body, outcome, buttons = []) {
  made.dataset.kind = outcome.kind;
  made.setAttribute("aria-busy", "false");
  body.replaceChildren(problem(outcome, buttons));
  announce(`${file.name}: ${outcome.title}. ${outcome.detail}`);
}

function thumbnail(file) {
  const source = URL.createObjectURL(file);
  const image = element("img", { class: "thumb", src: source, alt: "" });
  image.addEventListener("load", () => URL.revokeObjectURL(source));
  // Few browsers show TIFF and HEIC. The service reads both.
  image.addEventListener("error", () => image.replaceWith(element("span", { class: "thumb" })));
  return image;
}

async function run(path, file, made, body) {
  made.setAttribute("aria-busy", "true");
  made.querySelector(".stages")?.remove();
  body.replaceChildren(element("p", { class: "working" }, "Classifying…"));
  const outcome = await classify(path, file);
  made.setAttribute("aria-busy", "false");
  made.dataset.kind = outcome.kind;
  if (outcome.kind === "done") {
    const { predictions, values } = outcome;
    body.replaceChildren(values ? list(values) : labels(predictions));
    made.append(stages(outcome));
    const best = values ? plural(values.length, "value") : `${readable(predictions[0].label)}, ${share(predictions[0].probability)}`;
    announce(`${file.name}: ${best}`);
  } else {
    const again = element("button", { type: "button", click: () => run(path, file, made, body) }, "Send again");
    showProblem(file, made, body, outcome, outcome.temporary ? [again] : []);
  }
}

const readable = (label) => label.replaceAll("_", " ");
const share = (probability) => (probability < 0.001 ? "< 0.1 %" : `${(probability * 100).toFixed(1)} %`);

function labels(predictions) {
  const rows = predictions.map(({ label, probability }) => {
    const fill = element("i");
    fill.style.width = `${probability * 100}%`;
    const name = element("span", { class: "name", title: readable(label) }, readable(label));
    return element("li", {}, name, element("span", { class: "share" }, share(probability)), element("span", { class: "bar", "aria-hidden": "true" }, fill));
  });
  return element("ol", { class: "labels" }, ...rows);
}

// A model without labels gives values, in the order of its outputs.
function list(values) {
  const shown = values.slice(0, MAX_VALUES).map((value) => element("li", {}, element("span", { class: "name" }, value.toPrecision(5))));
  if (values.length > MAX_VALUES) shown.push(element("li", {}, element("span", { class: "name" }, `… ${plural(values.length, "value")} in total`)));
  return element("ol", { class: "labels", "aria-label": "Values" }, ...shown);
}

function stages({ stages: { parts, total }, model, version, provider, batch }) {
  const split = element("div", { class: "split", "aria-hidden": "true" });
  const legend = element("ul", { "aria-label": "Time of each stage" });
  for (const [name, spent] of parts) {
    const part = element("i", { class: name });
    part.style.flexGrow = spent;
    split.append(part);
    legend.append(element("li", { class: name }, `${name} ${milliseconds(spent)}`));
  }
  const where = [`${model} ${version}`, provider, batch ? `batch of ${batch}` : ""].filter(Boolean).join(" · ");
  return element("div", { class: "stages" }, split, legend, element("p", { class: "by" }, element("strong", {}, `${milliseconds(total)} ms`), ` · ${where}`));
}

function problem({ kind, title, detail, after }, buttons) {
  const when = after ? ` Try again in ${plural(after, "second")}.` : "";
  const text = kind === "refused" ? `${detail.split(". ")[0].replace(/\.$/, "")}.${when}` : detail;
  const what = kind === "refused" ? "Refused: " : "";
  return element("div", { class: kind }, element("p", {}, element("strong", {}, `${what}${title}. `), text), ...buttons);
}
