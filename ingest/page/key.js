// The API key: asked for when the service wants one, kept in this tab alone.

import { byId } from "./element.js";

const NAME = "sluice-key";
const waiting = [];

export const hasKey = () => sessionStorage.getItem(NAME) !== null;

export function headers() {
  return hasKey() ? { "X-API-Key": sessionStorage.getItem(NAME) } : {};
}

// Resolves when the user has given a key. All who wait for one wait for the same.
export function askForKey() {
  const form = byId("lock");
  if (hasKey()) {
    sessionStorage.removeItem(NAME);
    byId("lock-note").textContent = "This key is not known here. Check it, or ask the operator for one.";
    byId("lock-note").className = "wrong";
  }
  if (form.hidden) {
    form.hidden = false;
    byId("key").focus();
  }
  return new Promise((resolve) => waiting.push(resolve));
}

byId("lock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(NAME, byId("key").value.trim());
  byId("key").value = "";
  byId("lock").hidden = true;
  waiting.splice(0).forEach((resolve) => resolve());
});
