// The stream of snapshots. EventSource does not notice a line that has gone silent, so this reads the same events
// through fetch.

const SILENT_MS = 5000; // A snapshot comes each second: silence means that nobody is there any more.
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
          reportError(error); // A mistake of the page is no outage: it belongs on the console.
        }
      }
    } catch {
      // Whatever it was, it may be over the next time.
    }
    onState("reconnecting");
    await pause(Math.min(500 * 2 ** failures, LONGEST_PAUSE_MS));
  }
}

async function* snapshots(url) {
  const abort = new AbortController();
  let watchdog = setTimeout(() => abort.abort(), SILENT_MS);
  try {
    const answer = await fetch(url, { signal: abort.signal, cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
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
