// A chart of the last 90 seconds as lines in an SVG.

const SPAN_S = 90;
const MIN_SPAN_S = 20; // A new chart fills its width soon.
const GAP_S = 3; // Snapshots come each second. A longer gap interrupts the line.
const [WIDTH, HEIGHT, HEAD] = [SPAN_S, 40, 6];

export class Chart {
  #samples = [];
  #paths;

  // `classes` names the CSS class of each line. The first line gets an area below it. `least` is the smallest scale.
  constructor(plot, { classes, label, least = 1 }) {
    this.svg = plot.querySelector("svg");
    this.top = plot.querySelector("[data-top]");
    Object.assign(this, { label, least });
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", label);
    const path = (name) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
      made.setAttribute("class", name);
      this.svg.append(made);
      return made;
    };
    this.area = path("area");
    this.#paths = classes.map(path).reverse();
    this.rule = path("rule");
  }

  clear() {
    this.#samples = [];
  }

  // `values` in the order of the classes, null if unknown. `limit` is drawn as a rule if it is within the scale.
  push(at_s, values, { limit = null, text = (value) => String(Math.ceil(value)) } = {}) {
    this.#samples.push({ at_s, values });
    while (this.#samples[0].at_s < at_s - SPAN_S) this.#samples.shift();
    const known = this.#samples.flatMap((sample) => sample.values).filter((value) => value !== null);
    const most = Math.max(this.least, ...known);
    const span_s = Math.max(MIN_SPAN_S, at_s - this.#samples[0].at_s);
    const x = (at) => (WIDTH - ((at_s - at) / span_s) * WIDTH).toFixed(2);
    const y = (value) => (HEIGHT - (value / most) * (HEIGHT - HEAD)).toFixed(2);
    // A second line that is always zero would only look like an axis.
    const flat = values.map((_, index) => index > 0 && !this.#samples.some((sample) => sample.values[index]));
    const lines = values.map((_, index) => (flat[index] ? [] : this.#runs(index)).map((run) => run.map(([at, value]) => `${x(at)} ${y(value)}`)));
    // The paths are in reverse order, so that the first line is on top.
    [...this.#paths].reverse().forEach((path, index) => path.setAttribute("d", lines[index].map((run) => `M${run.join("L")}`).join("")));
    const below = (run) => `M${run[0].split(" ")[0]} ${HEIGHT}L${run.join("L")}L${run.at(-1).split(" ")[0]} ${HEIGHT}Z`;
    this.area.setAttribute("d", lines[0].filter((run) => run.length).map(below).join(""));
    this.rule.setAttribute("d", limit !== null && limit <= most * 1.02 ? `M0 ${y(Math.min(limit, most))}H${WIDTH}` : "");
    this.top.textContent = known.length ? text(most) : "";
    const now = values[0] === null ? "unknown" : text(values[0]);
    this.svg.setAttribute("aria-label", `${this.label}, last 90 seconds: now ${now}, at most ${text(most)}`);
  }

  #runs(index) {
    const runs = [];
    let before = -Infinity;
    for (const { at_s, values } of this.#samples) {
      if (values[index] === null) continue;
      if (at_s - before > GAP_S) runs.push([]);
      runs.at(-1).push([at_s, values[index]]);
      before = at_s;
    }
    return runs;
  }
}
