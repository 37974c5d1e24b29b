// Times, durations and sizes as people read them: one formatter for text, tables and axes.
import { signal } from "@preact/signals";

export type Zone = "local" | "utc";

function kept<T extends string>(name: string, values: readonly T[], otherwise: T) {
  const found = localStorage.getItem(`batchyard.${name}`) as T | null;
  const value = signal<T>(found && values.includes(found) ? found : otherwise);
  value.subscribe((now) => localStorage.setItem(`batchyard.${name}`, now));
  return value;
}

export const zone = kept<Zone>("zone", ["local", "utc"], "local");
export const theme = kept("theme", ["system", "light", "dark"] as const, "system");
export const keys = kept("keys", ["on", "off"] as const, "on");

theme.subscribe((value) => {
  if (value === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = value;
});

/** The clock that ages are read off. Stands while nobody looks. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1_000);

export function zoneName(): string {
  if (zone.value === "utc") return "UTC";
  const part = new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts(new Date()).find((p) => p.type === "timeZoneName");
  return part?.value ?? "local";
}

const two = (n: number): string => String(n).padStart(2, "0");

export function clock(at: number | string, seconds = true): string {
  const date = new Date(at);
  const utc = zone.value === "utc";
  const [h, m, s] = utc
    ? [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()]
    : [date.getHours(), date.getMinutes(), date.getSeconds()];
  return `${two(h)}:${two(m)}${seconds ? `:${two(s)}` : ""}`;
}

/** Time of day for today, with the day for what is older. */
export function moment(at: number | string): string {
  const date = new Date(at);
  const utc = zone.value === "utc";
  const day = (d: Date): string =>
    utc ? d.toISOString().slice(0, 10) : `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  const today = day(new Date(now.peek())) === day(date);
  return today ? clock(at) : `${day(date)} ${clock(at, false)}`;
}

export function duration(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** An age in one unit, for tables. */
export function short(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

export function bytes(n: number): string {
  if (n < 1024) return `${n} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = n;
  let unit = "";
  for (const name of units) {
    value /= 1024;
    unit = name;
    if (value < 1024) break;
  }
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

export function count(n: number): string {
  return n.toLocaleString("en");
}

/** A count of jobs, which are counted up to 10,000. */
export function jobs(n: number): string {
  return n >= 10_000 ? `${count(n)}+` : count(n);
}

export function plural(n: number, noun: string): string {
  return `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
}
