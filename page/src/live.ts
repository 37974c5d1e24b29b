// The changes of the subscription, by one stream for all tabs of a caller: the tab that holds the lock reads it and tells the others, as
// browsers give one server six connections over HTTP/1.1. What was missed is not replayed into the page: whoever shows something reads it
// again after a gap.
import { effect, signal } from "@preact/signals";
import { OWN, authorization, root } from "./api";
import { ended, session } from "./session";
import type { Change } from "./types";

export type Link = "live" | "reconnecting" | "offline";

export const link = signal<Link>("reconnecting");
/** When something was last heard. Unit: milliseconds since 1970. */
export const heard = signal(0);
/** The newest changes, the newest first. */
export const changes = signal<Change[]>([]);

const KEPT = 200;
/** Silence after which a stream counts as broken: the server speaks every 5 s. Unit: milliseconds. */
const SILENCE = 12_000;
/** Time without a stream after which the page says that it is old. Unit: milliseconds. */
const OFFLINE = 15_000;
const PAUSES = [1_000, 2_000, 5_000, 10_000];

type Listener = (change: Change | null) => void;
const listeners = new Set<Listener>();

/** Calls with each change, and with `null` where some may have been missed. */
export function listen(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A place in the hierarchy to follow where the caller may not follow the whole subscription. */
let narrower: string | null = null;
let isForbidden = false;
export function suggestScope(path: string): void {
  narrower = path;
}

type Told = { kind: "change"; change: Change } | { kind: "gap" } | { kind: "link"; link: Link } | { kind: "beat" };

function take(told: Told): void {
  if (told.kind === "link") {
    link.value = told.link;
    return;
  }
  heard.value = Date.now();
  if (told.kind === "beat") return;
  if (told.kind === "gap") {
    for (const listener of listeners) listener(null);
    return;
  }
  changes.value = [told.change, ...changes.value].slice(0, KEPT);
  for (const listener of listeners) listener(told.change);
}

effect(() => {
  const signedIn = session.value;
  if (!signedIn) return;
  const stop = new AbortController();
  const channel = new BroadcastChannel(`batchyard ${signedIn.name} ${signedIn.subscription}`);
  const tell = (told: Told): void => {
    take(told);
    channel.postMessage(told);
  };
  channel.onmessage = (event: MessageEvent<Told>) => take(event.data);
  const lead = (): Promise<void> => follow(tell, stop.signal);
  // Without locks (plain http beyond this machine) each tab follows by itself.
  const held = navigator.locks
    ? navigator.locks.request(`batchyard ${signedIn.name} ${signedIn.subscription}`, { signal: stop.signal }, lead)
    : lead();
  held.catch(() => undefined);
  const watch = setInterval(() => {
    if (heard.peek() && Date.now() - heard.peek() > SILENCE + OFFLINE && link.peek() !== "offline") link.value = "offline";
  }, 1_000);
  return () => {
    stop.abort();
    channel.close();
    clearInterval(watch);
  };
});

async function follow(tell: (told: Told) => void, stop: AbortSignal): Promise<void> {
  let last: string | null = null;
  let tries = 0;
  let lostAt = Date.now();
  while (!stop.aborted) {
    try {
      await readStream(last, stop, {
        opened: () => {
          tries = 0;
          tell({ kind: "link", link: "live" });
          // Before the first stream, and after a place that is not known any more, anything may have happened.
          if (last === null) tell({ kind: "gap" });
        },
        at: (id) => {
          last = id;
          lostAt = Date.now();
          tell({ kind: "beat" });
        },
        change: (change) => tell({ kind: "change", change }),
      });
    } catch (error) {
      if (stop.aborted) return;
      if (error instanceof Place) last = null;
    }
    if (stop.aborted || ended.peek()) {
      if (!stop.aborted) tell({ kind: "link", link: "offline" });
      return;
    }
    tell({ kind: "link", link: Date.now() - lostAt > OFFLINE ? "offline" : "reconnecting" });
    const pause = (PAUSES[Math.min(tries++, PAUSES.length - 1)] ?? 10_000) * (0.75 + Math.random() / 2);
    await new Promise((done) => setTimeout(done, tries === 1 ? 100 : pause));
  }
}

/** The server does not know the place that was to be gone on from. */
class Place extends Error {}

interface Heard {
  opened(): void;
  at(id: string): void;
  change(change: Change): void;
}

async function readStream(last: string | null, stop: AbortSignal, heard: Heard): Promise<void> {
  const scope = isForbidden && narrower ? narrower : `${root()}/providers/Microsoft.BatchAI`;
  const silent = new AbortController();
  stop.addEventListener("abort", () => silent.abort(), { once: true });
  let timer = setTimeout(() => silent.abort(), SILENCE);
  const headers: Record<string, string> = { ...authorization(), accept: "text/event-stream" };
  if (last) headers["last-event-id"] = last;
  try {
    const response = await fetch(`${scope}/events?api-version=${OWN}`, { headers, signal: silent.signal });
    if (response.status === 401) ended.value = "The token is not valid any more.";
    if (response.status === 403) isForbidden = true;
    if (response.status === 400 && last) throw new Place();
    if (!response.ok || !response.body) throw new Error(String(response.status));
    heard.opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE);
      rest += value;
      const blocks = rest.split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const id = /^id: (.*)$/m.exec(block)?.[1];
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (data) heard.change(JSON.parse(data) as Change);
        if (id) heard.at(id);
      }
    }
  } finally {
    clearTimeout(timer);
  }
}
