// Reads the stream of snapshots with fetch, because EventSource does not notice a silent connection.

const SILENT_MS = 5000; // A snapshot comes each second, so silence means that the service is gone.
const LONGEST_PAUSE_MS = 8000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Calls onSnapshot with each, and onState with "live" or "reconnecting". Never ends.
export async function follow(url, onSnapshot, onState) {
  for (let failures = 0; ; failures += 1) {
    try {
      for await (const snapshot of snapshots(url)) {
        failures = 0;
        onState("live");
        try {
          onSnapshot(snapshot);
        } catch (error) {
          reportError(error); // A bug of the page is not an outage, and belongs on the console.
        }
      }
    } catch {
      // The next attempt may succeed.
    }
    onState("reconnecting");
    await pause(Math.min(500 * 2 ** failures, LONGEST_PAUSE_MS));
  }
}

async function* snapshots(url) {
  const abort = new AbortController();
  let watchdog = setTimeout(() => abort.abort(), SILENT_MS);
  try {
    const response = await fetch(url, { signal: abort.signal, cache: "no-store" });
    if (!response.ok) throw new Error(response.statusText);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENT_MS);
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) if (event.startsWith("data: ")) yield JSON.parse(event.slice(6));
    }
  } finally {
    clearTimeout(watchdog);
  }
}
