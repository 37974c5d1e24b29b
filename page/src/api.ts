// The public API, and nothing else: one function that asks, one that goes through a list, and what was refused as it was said.
import { ended, session } from "./session";

export const OWN = "2026-11-01-preview";
const PLATFORM = "2021-04-01";

export interface Violation {
  code: string;
  message: string;
  target?: string;
}

export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly details: Violation[],
    readonly request: string,
  ) {
    super(message);
  }
}

export interface Answer<T> {
  status: number;
  body: T;
  etag: string | null;
}

interface Ask {
  method?: string;
  version?: string;
  body?: unknown;
  query?: Record<string, string | number | undefined>;
  etag?: string;
  /** Refuses where the resource is there already. */
  absent?: boolean;
  signal?: AbortSignal;
}

/** `/subscriptions/{the one in use}`. */
export function root(): string {
  return `/subscriptions/${session.value?.subscription ?? ""}`;
}

export function group(name: string): string {
  return `${root()}/resourceGroups/${encodeURIComponent(name)}`;
}

export function workspace(g: string, w: string): string {
  return `${group(g)}/providers/Microsoft.BatchAI/workspaces/${encodeURIComponent(w)}`;
}

export function authorization(): Record<string, string> {
  return session.value ? { authorization: `Bearer ${session.value.token}` } : {};
}

/** One request. Throws what was refused. */
export async function ask<T>(path: string, { method = "GET", version, body, query, etag, absent, signal }: Ask = {}): Promise<Answer<T>> {
  const url = new URL(path, location.origin);
  const isProvider = /\/providers\/Microsoft\.BatchAI/i.test(url.pathname);
  if (!url.searchParams.has("api-version")) url.searchParams.set("api-version", version ?? (isProvider ? OWN : PLATFORM));
  for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) url.searchParams.set(name, String(value));
  const headers: Record<string, string> = authorization();
  if (body !== undefined) headers["content-type"] = "application/json";
  if (etag) headers["if-match"] = etag;
  if (absent) headers["if-none-match"] = "*";
  let response: Response;
  try {
    response = await fetch(url, { method, headers, body: body === undefined ? null : JSON.stringify(body), signal: signal ?? null });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new Refused(0, "NotReached", "The server was not reached. The page keeps what it has.", [], "");
  }
  const text = await response.text();
  let read: unknown = null;
  try {
    read = text ? JSON.parse(text) : null;
  } catch {
    // Told below by its status.
  }
  if (response.ok) return { status: response.status, body: read as T, etag: response.headers.get("etag") };
  const said = (read as { error?: Violation & { details?: Violation[] } } | null)?.error;
  if (response.status === 401) ended.value = said?.message ?? "The token is not valid any more.";
  throw new Refused(
    response.status,
    said?.code ?? `Http${response.status}`,
    said?.message ?? "The server gave no reason.",
    said?.details ?? (said?.target ? [said] : []),
    response.headers.get("x-ms-request-id") ?? "",
  );
}

export interface Page<T> {
  value: T[];
  nextLink?: string;
}

export async function read<T>(path: string, query?: Ask["query"], signal?: AbortSignal): Promise<T> {
  return (await ask<T>(path, { ...(query && { query }), ...(signal && { signal }) })).body;
}

/** Where a page goes on, as a path of this origin. */
export function next(page: Page<unknown>): string | null {
  if (!page.nextLink) return null;
  const url = new URL(page.nextLink, location.origin);
  return url.pathname + url.search;
}

/** All of a list, up to a bound that no screen shows more of. */
export async function all<T>(path: string, query?: Ask["query"], most = 5000): Promise<T[]> {
  const found: T[] = [];
  let page = await read<Page<T>>(path, query);
  for (;;) {
    found.push(...page.value);
    const follow = next(page);
    if (!follow || found.length >= most) return found;
    page = await read<Page<T>>(follow);
  }
}

/** A link to a file that this server holds, as a path of this origin: another host would be another origin. */
export function fileLink(url: string): { href: string; readable: boolean } {
  const read = new URL(url, location.origin);
  if (read.pathname.startsWith("/files/")) return { href: read.pathname + read.search, readable: true };
  return { href: url, readable: read.origin === location.origin };
}
