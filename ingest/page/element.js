// An element with attributes and children, made without HTML text: nothing that was received is ever parsed as HTML.

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

// Write only what is new: a screen reader, a selection and the browser's layout are disturbed by every write.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Tell those who do not see the page.
export function announce(text) {
  byId("announcer").textContent = text;
}
