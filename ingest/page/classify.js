// Photographs become requests, a few at a time, and answers become values. Knows no element.

// A browser opens six connections to one host; the live view holds one.
const AT_ONCE = 4;

const queue = [];
let running = 0;

// Resolves to {kind: "done" | "refused" | "failed", ...}; never rejects.
export function classify(path, file) {
  return new Promise((resolve) => {
    queue.push({ path, file, resolve });
    next();
  });
}

async function next() {
  if (running === AT_ONCE || !queue.length) return;
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
    const answer = await fetch(path, { method: "POST", body });
    return outcome(answer, await answer.json(), performance.now() - began);
  } catch {
    return { kind: "failed", title: "No answer", detail: "The service cannot be reached. Is it running?" };
  }
}

function outcome(answer, body, took) {
  if (answer.ok) {
    return {
      kind: "done",
      ...body,
      took,
      stages: stages(answer.headers.get("Server-Timing") ?? ""),
      provider: (answer.headers.get("X-Sluice-Provider") ?? "").replace("ExecutionProvider", ""),
      batch: Number(answer.headers.get("X-Sluice-Batch")),
    };
  }
  const kind = answer.status === 503 || answer.status === 429 ? "refused" : "failed";
  return { kind, title: body.title, detail: body.detail, after: Number(answer.headers.get("Retry-After")) };
}

// "decode;dur=2.10, queue;dur=3.00, total;dur=9.00" to [["decode", 2.1], ...]; what no stage accounts for is the rest.
function stages(header) {
  const found = [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, spent]) => [name, Number(spent)]);
  const total = found.find(([name]) => name === "total")?.[1] ?? 0;
  const parts = found.filter(([name]) => name !== "total");
  const rest = total - parts.reduce((sum, [, spent]) => sum + spent, 0);
  return { total, parts: rest > 0.05 ? [...parts, ["rest", rest]] : parts };
}
