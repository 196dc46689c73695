// A time series of the last minute and a half as lines of an SVG. Knows no unit.

const SPAN_S = 90;
const LEAST_SPAN_S = 20; // A chart that has just begun fills its place soon.
const GAP_S = 3; // Snapshots come each second; across a longer silence no line is drawn.
const [WIDTH, HEIGHT, HEAD] = [SPAN_S, 40, 6];

export class Chart {
  #samples = [];
  #paths;

  // `classes` name one line each; the first gets an area below it. `top` shows the scale's end.
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

  // `values` in the order of the classes, null where unknown; `limit` is drawn as a rule where it is within sight.
  push(at_s, values, { limit = null, text = (value) => String(Math.ceil(value)) } = {}) {
    this.#samples.push({ at_s, values });
    while (this.#samples[0].at_s < at_s - SPAN_S) this.#samples.shift();
    const known = this.#samples.flatMap((sample) => sample.values).filter((value) => value !== null);
    const most = Math.max(this.least, ...known);
    const span_s = Math.max(LEAST_SPAN_S, at_s - this.#samples[0].at_s);
    const x = (at) => (WIDTH - ((at_s - at) / span_s) * WIDTH).toFixed(2);
    const y = (value) => (HEIGHT - (value / most) * (HEIGHT - HEAD)).toFixed(2);
    // A second line that is zero throughout, as refusals mostly are, would only underline the chart.
    const flat = values.map((_, index) => index > 0 && !this.#samples.some((sample) => sample.values[index]));
    const lines = values.map((_, index) => (flat[index] ? [] : this.#runs(index)).map((run) => run.map(([at, value]) => `${x(at)} ${y(value)}`)));
    // The paths were made first line last, so that the first lies on top.
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
