// Who is signed in. Scripts have the token in memory alone. Over https the browser also keeps it, in a cookie that no script can read and
// that is sent nowhere but to the session's own address: it gives the token back after a reload, and to other tabs.
import { signal } from "@preact/signals";
import { tell } from "./parts/basics";

export interface Session {
  token: string;
  /** When the token ends. Unit: milliseconds since 1970. */
  expires: number;
  /** The name that the caller signed in with. */
  name: string;
  subscription: string;
  subscriptions: { id: string; name: string }[];
}

export const session = signal<Session | null>(null);

/** Why one has to sign in again; the page below stays as it is. */
export const ended = signal<string | null>(null);

interface Claims {
  exp?: number;
  appid?: string;
  azp?: string;
  sub?: string;
}

function claims(token: string): Claims {
  try {
    const part = token.split(".")[1] ?? "";
    return JSON.parse(atob(part.replace(/-/g, "+").replace(/_/g, "/"))) as Claims;
  } catch {
    return {};
  }
}

/** A token from the built-in issuer. Throws what it says where it refuses. */
export async function exchange(client: string, secret: string): Promise<string> {
  const form = new URLSearchParams({
    grant_type: "client_credentials",
    client_id: client,
    client_secret: secret,
    scope: `${location.origin}/.default`,
  });
  const response = await fetch("/common/oauth2/v2.0/token", { method: "POST", body: form });
  const answer = (await response.json()) as { access_token?: string; error_description?: string; error?: { message?: string } | string };
  if (response.ok && answer.access_token) return answer.access_token;
  const said = typeof answer.error === "object" ? answer.error.message : answer.error_description;
  throw new Error(said ?? `The server answered ${response.status}.`);
}

const SESSION = "/ui/session";
/** Over plain http the server keeps no session. */
export const isKept = location.protocol === "https:";

/** Goes on with what the browser keeps, if anything: what is wrong with it is told to who signs in. */
export async function resume(): Promise<void> {
  if (!isKept) return;
  try {
    const response = await fetch(SESSION, { signal: AbortSignal.timeout(5_000) });
    if (response.status === 200) await admit(((await response.json()) as { access_token: string }).access_token);
  } catch {
    // Nobody is signed in.
  }
}

/** Signs in with a token: throws where the server does not take it. */
export async function enter(token: string): Promise<void> {
  await admit(token);
  // One that is too long for a cookie stays in memory alone.
  if (isKept) await fetch(SESSION, { method: "PUT", headers: { authorization: `Bearer ${token}` } }).catch(() => undefined);
}

async function admit(token: string): Promise<void> {
  const response = await fetch("/subscriptions?api-version=2020-01-01", { headers: { authorization: `Bearer ${token}` } });
  const answer = (await response.json()) as {
    value?: { subscriptionId: string; displayName: string }[];
    error?: { message: string };
  };
  if (!response.ok) throw new Error(answer.error?.message ?? `The server answered ${response.status}.`);
  const subscriptions = (answer.value ?? []).map((one) => ({ id: one.subscriptionId, name: one.displayName }));
  const first = subscriptions[0];
  if (!first) throw new Error("You hold no role in any subscription here. Ask its owner for one.");
  const read = claims(token);
  const kept = session.value?.subscription;
  session.value = {
    token,
    expires: (read.exp ?? Date.now() / 1000 + 3600) * 1000,
    name: read.appid ?? read.azp ?? read.sub ?? "you",
    subscription: subscriptions.some((one) => one.id === kept) ? (kept as string) : first.id,
    subscriptions,
  };
  ended.value = null;
}

const tabs = new BroadcastChannel("batchyard session");
tabs.onmessage = forget;

function forget(): void {
  session.value = null;
  ended.value = null;
}

/** Signs out in all tabs, and ends the session. */
export async function leave(): Promise<void> {
  forget();
  tabs.postMessage("left");
  if (!isKept) return;
  const response = await fetch(SESSION, { method: "DELETE" }).catch(() => null);
  if (!response?.ok) tell("The server was not reached, so that the browser still keeps the session: sign in and out once more, or close the browser.", true);
}

/** Plain http is for this machine alone: others could read the secret on its way. */
export function isSafe(): boolean {
  return location.protocol === "https:" || ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
}
