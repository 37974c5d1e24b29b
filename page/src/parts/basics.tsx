// Small pieces that every view is made of.
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import type { Refused } from "../api";
import { duration, moment, now, short, zone, zoneName } from "../format";
import type { Loading } from "../load";

/** Every state has a sign, a word and a colour; the colour is never alone. */
const SIGNS: Record<string, string> = {
  queued: "○",
  preparing: "~",
  running: "●",
  succeeded: "✓",
  failed: "✗",
  terminating: "◌",
  deleting: "◌",
  unusable: "!",
  leaving: "↓",
  idle: "○",
  steady: "=",
  resizing: "~",
};

export function State({ is, children }: { is: string; children?: ComponentChildren }) {
  const word = is.toLowerCase();
  return (
    <span class={`state s-${word}`}>
      <span class="sign" aria-hidden="true">
        {SIGNS[word] ?? "?"}
      </span>
      {children ?? word}
    </span>
  );
}

export function sign(state: string): string {
  return SIGNS[state.toLowerCase()] ?? "?";
}

/** A time: its exact form is on hover and in copies. */
export function Time({ at }: { at: string | undefined }) {
  if (!at) return <>–</>;
  zone.value;
  return (
    <time dateTime={at} title={`${at}, shown in ${zoneName()}`}>
      {moment(at)}
    </time>
  );
}

/** How long ago something was, or how long it took. */
export function Age({ from, to, long }: { from: string | undefined; to?: string | undefined; long?: boolean }) {
  if (!from) return <>–</>;
  const ms = (to ? Date.parse(to) : Math.max(now.value, Date.parse(from))) - Date.parse(from);
  return <span title={`${from}${to ? ` to ${to}` : ""}`}>{long ? duration(ms) : short(ms)}</span>;
}

const title = signal("batchyard");

/** Names the page in the browser and for screen readers. */
export function useTitle(text: string): void {
  useEffect(() => {
    title.value = text;
    document.title = `${text} · batchyard`;
  }, [text]);
}

const spoken = signal("");
let last = 0;
let waiting: ReturnType<typeof setTimeout> | undefined;

/** Says something to those who hear the page, at most once in 5 s. */
export function say(text: string): void {
  clearTimeout(waiting);
  waiting = setTimeout(
    () => {
      last = Date.now();
      spoken.value = text;
    },
    Math.max(0, last + 5_000 - Date.now()),
  );
}

export function Spoken() {
  return (
    <div class="hidden-text" role="status" aria-live="polite">
      {spoken.value}
    </div>
  );
}

const told = signal<{ text: string; isBad: boolean } | null>(null);
let toldUntil: ReturnType<typeof setTimeout> | undefined;

/** A result that is shown for a while, below. */
export function tell(text: string, isBad = false): void {
  told.value = { text, isBad };
  clearTimeout(toldUntil);
  toldUntil = setTimeout(() => (told.value = null), isBad ? 15_000 : 6_000);
}

export function Told() {
  return (
    <div class={`told${told.value?.isBad ? " bad" : ""}`} role={told.value?.isBad ? "alert" : "status"} hidden={!told.value}>
      <span>{told.value?.text}</span>
      <button type="button" class="plain" onClick={() => (told.value = null)} aria-label="Close message">
        ×
      </button>
    </div>
  );
}

export async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    tell(`Copied ${what}.`);
  } catch {
    tell(`The browser did not let the page copy ${what}.`, true);
  }
}

export function Copy({ text, what, children }: { text: string; what: string; children?: ComponentChildren }) {
  return (
    <button type="button" class="plain" onClick={() => void copy(text, what)} title={text}>
      {children ?? `Copy ${what}`}
    </button>
  );
}

export function Failure({ error, again }: { error: Refused; again?: () => void }) {
  const isForbidden = error.status === 403;
  return (
    <div class="failure" role="alert">
      <strong>{isForbidden ? "You may not see this" : error.status === 404 ? "This is not there" : "This could not be read"}</strong>
      <p>
        {error.message} <code>{error.code}</code>
      </p>
      <p class="quiet">
        {error.request && <>Request {error.request}. </>}
        {again && (
          <button type="button" onClick={again}>
            Try again
          </button>
        )}
      </p>
    </div>
  );
}

/** What was loaded; before that a frame of its height; a failure in its place alone, above what is still known. */
export function Shown<T>({ of, lines = 3, title, children }: {
  of: Loading<T>;
  lines?: number;
  /** The heading of the view, where it is within what is loaded. */
  title?: string;
  children: (data: T) => ComponentChildren;
}) {
  const { data, error, loading } = of.state.value;
  return (
    <>
      {title && data === null && <h1>{title}</h1>}
      {error && <Failure error={error} again={of.again} />}
      {data !== null ? children(data) : loading && <Skeleton lines={lines} />}
    </>
  );
}

export function Skeleton({ lines }: { lines: number }) {
  return (
    <div class="skeleton" aria-busy="true" aria-label="Loading">
      {Array.from({ length: lines }, (_, i) => (
        <div key={i} />
      ))}
    </div>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="empty">{children}</div>;
}

export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export interface Tab {
  id: string;
  name: ComponentChildren;
}

/** Tabs whose choice is in the address; 1 to 9 choose them by key. */
export function Tabs({ tabs, chosen, choose, label }: { tabs: Tab[]; chosen: string; choose: (id: string) => void; label: string }) {
  const move = (event: KeyboardEvent): void => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    const index = tabs.findIndex((tab) => tab.id === chosen);
    const to = tabs[(index + step + tabs.length) % tabs.length];
    if (!to) return;
    event.preventDefault();
    choose(to.id);
    document.getElementById(`tab-${to.id}`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} onKeyDown={move}>
      {tabs.map((tab, index) => (
        <button
          key={tab.id}
          id={`tab-${tab.id}`}
          type="button"
          role="tab"
          aria-selected={tab.id === chosen}
          aria-controls="tab-panel"
          tabIndex={tab.id === chosen ? 0 : -1}
          data-key={index + 1}
          onClick={() => choose(tab.id)}
        >
          {tab.name}
        </button>
      ))}
    </div>
  );
}

export function Panel({ of, children }: { of: string; children: ComponentChildren }) {
  return (
    <div role="tabpanel" id="tab-panel" aria-labelledby={`tab-${of}`}>
      {children}
    </div>
  );
}

/** A document as the wire has it. */
export function Json({ of }: { of: unknown }) {
  const text = JSON.stringify(of, null, 2);
  return (
    <div class="json">
      <div class="row end">
        <Copy text={text} what="JSON" />
      </div>
      <pre tabIndex={0} aria-label="Definition as JSON">
        {text}
      </pre>
    </div>
  );
}
