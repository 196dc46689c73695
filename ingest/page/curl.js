// The curl command that sends the same request.

export function curl(path, name, { key }) {
  const words = ["curl"];
  // A variable and not the key itself, because commands are copied into chats and histories.
  if (key) words.push(`-H "X-API-Key: $SLUICE_API_KEY"`);
  words.push("-F", form(name), quoted(new URL(path, document.baseURI).href));
  return words.join(" ");
}

// In a form, curl treats ";" and "," specially unless the file name is in double quotes.
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
    // Browsers allow the clipboard only over HTTPS and on localhost.
    button.textContent = "Select and copy";
  }
  setTimeout(() => (button.textContent = before), 1500);
}
