// Finds what is wrong, in a sentence each, from the snapshots of the last seconds.

import { duration, plural, rate } from "./quantity.js";

const REMEMBERED = 10;

export class Trouble {
  #past = [];
  #alive = 0; // How many consumers were alive before some of them died.

  // For the model that is shown; `serving`: some model is served. The key of a problem stays the same while its
  // figures change.
  find(snapshot, model, serving) {
    if (snapshot.outage) return [bad("outage", `${snapshot.outage} No image can be accepted until it does.`)];
    if (!model) return [warn("nobody", "No consumer has announced a model yet. Start one with: python -m consumers")];
    // Redis knows each model that was ever served. One that is retired is no trouble while another is served.
    if (serving && !model.consumers.length && !model.backlog) return [warn("retired", `${model.model} is not served at present.`)];
    this.#past = [...this.#past, { backlog: model.backlog, now_ms: model.now_ms, refused: snapshot.requests.refused_per_s ?? 0 }].slice(-REMEMBERED);
    return [...this.#ofServer(model), ...this.#dead(model), ...this.#refusals(), ...this.#growth(model)];
  }

  forget() {
    this.#past = [];
    this.#alive = 0;
  }

  #ofServer(model) {
    // #dead reports dead consumers.
    return model.problems.filter((text) => !text.includes(" is dead ")).map((text) => bad(text.replace(/[\d.]+/g, ""), text));
  }

  // A dead consumer is a problem while it holds images, and for a minute unless another one has replaced it.
  #dead(model) {
    const alive = model.consumers.filter(({ state }) => state !== "dead").length;
    this.#alive = Math.max(this.#alive, alive);
    const replaced = alive >= this.#alive;
    const recently = (one) => one.state === "dead" && (one.held > 0 || (!replaced && (one.silent_s ?? Infinity) < 60));
    const heirs = alive ? "which the others will claim" : "which wait for another consumer";
    const dead = model.consumers.filter(recently);
    if (!dead.length) this.#alive = alive;
    return dead.map((one) => {
      const since = one.silent_s === null ? "is dead" : `died: its heartbeat ended ${duration(one.silent_s)} ago`;
      const held = one.held ? ` It holds ${plural(one.held, "image")}, ${heirs}.` : "";
      return bad(`dead ${one.name}`, `Consumer ${one.name} ${since}.${held}`);
    });
  }

  #refusals() {
    const refused = this.#past.reduce((sum, one) => sum + one.refused, 0);
    if (refused < 0.5) return [];
    return [bad("refused", `${plural(Math.round(refused), "request")} refused in the last ${REMEMBERED} seconds. Clients are asked to retry later.`)];
  }

  #growth(model) {
    const [first, last] = [this.#past[0], this.#past.at(-1)];
    const seconds = (last.now_ms - first.now_ms) / 1000;
    const grown = last.backlog - first.backlog;
    // What the consumers process in half a second is only the next batch.
    if (seconds < 3 || grown < Math.max(8, model.capacity_per_s / 2) || last.backlog < this.#past.at(-2).backlog) return [];
    return [warn("growth", `The queue grows by ${rate(grown / seconds)} images/s: more images arrive than the consumers can process (${rate(model.capacity_per_s)}/s).`)];
  }
}

const bad = (key, text) => ({ key, text, level: "bad" });
const warn = (key, text) => ({ key, text, level: "warn" });
