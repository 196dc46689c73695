// The command that sends the same request from a shell. Knows no page but the address it came from.

export function curl(path, name, { key }) {
  const words = ["curl"];
  // The variable, not the key, which the browser keeps to itself: a command is copied into chats and histories.
  if (key) words.push(`-H "X-API-Key: $SLUICE_API_KEY"`);
  words.push("-F", form(name), quoted(new URL(path, document.baseURI).href));
  return words.join(" ");
}

// In a form's value curl gives ";" and "," a meaning, unless the file's name stands in double quotes.
function form(name) {
  if (/^[\w.-]+$/.test(name)) return `image=@${name}`;
  return quoted(`image=@"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`);
}

function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

export async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Only over HTTPS or on the machine itself may a page write the clipboard.
    button.textContent = "Select it";
  }
  setTimeout(() => (button.textContent = before), 1500);
}
