// What is wrong, in a sentence each, from the snapshots of the last seconds. Pure, knows no element.

import { duration, plural, rate } from "./quantity.js";

const REMEMBERED = 10;

export class Trouble {
  #past = [];

  // Of the model that is shown. Each trouble has a key that stays the same while its figures change.
  find(snapshot, model) {
    if (snapshot.outage) return [bad("outage", `${snapshot.outage} No image can be taken until it does.`)];
    if (!model) return [warn("nobody", "No consumer has announced a model yet. Start one: python -m consumers")];
    this.#past = [...this.#past, { backlog: model.backlog, now_ms: model.now_ms, refused: snapshot.here.refused_per_s ?? 0 }].slice(-REMEMBERED);
    return [...this.#ofServer(model), ...this.#dead(model), ...this.#refusals(), ...this.#growth(model)];
  }

  forget() {
    this.#past = [];
  }

  #ofServer(model) {
    // Dead consumers are told below, whether or not they hold anything.
    return model.problems.filter((text) => !text.includes(" is dead ")).map((text) => bad(text.replace(/[\d.]+/g, ""), text));
  }

  #dead(model) {
    const recently = (one) => one.state === "dead" && (one.held > 0 || (one.silent_s ?? Infinity) < 60);
    const heirs = model.consumers.some(({ state }) => state !== "dead") ? "which the others take over" : "which wait for another";
    return model.consumers.filter(recently).map((one) => {
      const since = one.silent_s === null ? "is dead" : `died: its heartbeat ended ${duration(one.silent_s)} ago`;
      const held = one.held ? ` It holds ${plural(one.held, "image")}, ${heirs}.` : "";
      return bad(`dead ${one.name}`, `Consumer ${one.name} ${since}.${held}`);
    });
  }

  #refusals() {
    const refused = this.#past.reduce((sum, one) => sum + one.refused, 0);
    if (refused < 0.5) return [];
    return [bad("refused", `${plural(Math.round(refused), "request")} refused in the last ${REMEMBERED} seconds. Clients are told when to come back.`)];
  }

  #growth(model) {
    const [first, last] = [this.#past[0], this.#past.at(-1)];
    const seconds = (last.now_ms - first.now_ms) / 1000;
    const grown = last.backlog - first.backlog;
    // What the consumers do in half a second is no backlog, only the next batch.
    if (seconds < 3 || grown < Math.max(8, model.capacity_per_s / 2) || last.backlog < this.#past.at(-2).backlog) return [];
    return [warn("growth", `The queue grows by ${rate(grown / seconds)} images/s: more arrives than the consumers can do (${rate(model.capacity_per_s)}/s).`)];
  }
}

const bad = (key, text) => ({ key, text, level: "bad" });
const warn = (key, text) => ({ key, text, level: "warn" });
