// What a view shows, read once and again when something changed below the paths that it names; by a clock only where no change tells of it.
import { type Signal, signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { Refused } from "./api";
import { listen } from "./live";
import { session } from "./session";

export interface Loaded<T> {
  data: T | null;
  error: Refused | null;
  loading: boolean;
}

/** Shortest time between two readings of the same. Unit: milliseconds. */
const REST = 300;
/** The same for a tab that nobody sees. */
const REST_HIDDEN = 60_000;

export interface Loading<T> {
  state: Signal<Loaded<T>>;
  again(): void;
}

/**
 * `key` names what is read: another key is another thing. `paths` are ids of resources; changes of them and below are followed. What is
 * read by `version` is read again when that is another, and stays in sight meanwhile.
 */
export function useLoad<T>(key: string, paths: string[], load: (signal: AbortSignal) => Promise<T>, version = ""): Loading<T> {
  const token = session.value?.token ?? "";
  const latest = useRef(load);
  latest.current = load;
  const loading = useMemo(() => {
    const state = signal<Loaded<T>>({ data: null, error: null, loading: true });
    let running: AbortController | null = null;
    let wanted = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let begun = 0;
    const run = async (): Promise<void> => {
      if (running) {
        wanted = true;
        return;
      }
      running = new AbortController();
      const mine = running;
      begun = Date.now();
      wanted = false;
      try {
        const data = await latest.current(mine.signal);
        if (!mine.signal.aborted) state.value = { data, error: null, loading: false };
      } catch (cause) {
        if (mine.signal.aborted) return;
        const error = cause instanceof Refused ? cause : new Refused(0, "PageFailed", String(cause), [], "");
        state.value = { data: error.status === 404 ? null : state.peek().data, error, loading: false };
      } finally {
        if (running === mine) running = null;
        if (wanted && !mine.signal.aborted) soon();
      }
    };
    const soon = (): void => {
      clearTimeout(timer);
      const rest = document.hidden ? REST_HIDDEN : REST;
      timer = setTimeout(run, Math.max(0, begun + rest - Date.now()));
    };
    return {
      state,
      run,
      soon,
      stop: () => {
        clearTimeout(timer);
        running?.abort();
        running = null;
        wanted = false;
      },
    };
  }, [key]);
  const watched = paths.join("\n").toLowerCase();
  useEffect(() => {
    if (!token) return;
    const roots = watched ? watched.split("\n") : [];
    void loading.run();
    const unlisten = listen((change) => {
      const id = change?.resourceId.toLowerCase();
      if (!id || roots.some((path) => id === path || id.startsWith(`${path}/`))) loading.soon();
    });
    const shown = (): void => {
      if (!document.hidden) loading.soon();
    };
    document.addEventListener("visibilitychange", shown);
    return () => {
      unlisten();
      document.removeEventListener("visibilitychange", shown);
      loading.stop();
    };
  }, [loading, watched, token]);
  const known = useRef(version);
  useEffect(() => {
    if (known.current !== version) loading.soon();
    known.current = version;
  }, [loading, version]);
  return { state: loading.state, again: loading.soon };
}

/** Reads again every so many milliseconds, for what no change tells of; `null` ends it. */
export function useAgain({ again }: Loading<unknown>, period: number | null): void {
  useEffect(() => {
    if (period === null) return;
    const timer = setInterval(again, period);
    return () => clearInterval(timer);
  }, [again, period]);
}
