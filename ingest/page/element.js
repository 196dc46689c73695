// Creates an element with attributes and children. No text is ever parsed as HTML.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

// Writes only if the text has changed: a write disturbs screen readers and selections.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// For screen readers.
export function announce(text) {
  byId("announcer").textContent = text;
}
