// Sends images, a few at a time, and turns each response into an outcome.

// A browser opens six connections to one host. The live view holds one.
const MAX_IN_FLIGHT = 4;

const queue = [];
let running = 0;

// Resolves to {kind: "done" | "refused" | "failed", ...} and never rejects. `temporary`: the same image may succeed later.
export function classify(path, file) {
  return new Promise((resolve) => {
    queue.push({ path, file, resolve });
    next();
  });
}

async function next() {
  if (running === MAX_IN_FLIGHT || !queue.length) return;
  running += 1;
  const { path, file, resolve } = queue.shift();
  resolve(await send(path, file));
  running -= 1;
  next();
}

async function send(path, file) {
  const body = new FormData();
  body.append("image", file, file.name);
  const began = performance.now();
  try {
    const response = await fetch(path, { method: "POST", body });
    return outcome(response, await response.json(), performance.now() - began);
  } catch {
    return { kind: "failed", title: "No response", detail: "The service cannot be reached. Is it running?", temporary: true };
  }
}

function outcome(response, body, took) {
  if (response.ok) {
    return {
      kind: "done",
      ...body,
      took,
      stages: stages(response.headers.get("Server-Timing") ?? ""),
      provider: (response.headers.get("X-Sluice-Provider") ?? "").replace("ExecutionProvider", ""),
      batch: Number(response.headers.get("X-Sluice-Batch")),
    };
  }
  const kind = response.status === 503 || response.status === 429 ? "refused" : "failed";
  return { kind, temporary: response.status === 429 || response.status >= 500, title: body.title, detail: body.detail, after: Number(response.headers.get("Retry-After")) };
}

// "decode;dur=2.10, queue;dur=3.00, total;dur=9.00" to [["decode", 2.1], ...]. The rest of the total belongs to no stage.
function stages(header) {
  const found = [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, spent]) => [name, Number(spent)]);
  const total = found.find(([name]) => name === "total")?.[1] ?? 0;
  const parts = found.filter(([name]) => name !== "total");
  const rest = total - parts.reduce((sum, [, spent]) => sum + spent, 0);
  return { total, parts: rest > 0.05 ? [...parts, ["rest", rest]] : parts };
}
