// The frame around every view: where one is, what there is beside it, whether the page is live, and keys.
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLocation } from "preact-iso";
import { useEffect, useRef, useState } from "preact/hooks";
import { OWN, all, root } from "../api";
import { clock, keys, now, theme, zone, zoneName } from "../format";
import { heard, link, suggestScope } from "../live";
import { useLoad } from "../load";
import { at, show } from "../paths";
import { leave, session } from "../session";
import type { Workspace } from "../types";
import { Dialog } from "./dialog";

const open = signal<"find" | "keys" | null>(null);

interface Place {
  g?: string | undefined;
  w?: string | undefined;
  section: string;
  crumbs: { name: string; href?: string }[];
}

/** Reads the address: the frame stands around every view and knows none of them. */
function place(path: string, query: Record<string, string>): Place {
  const found = /^\/ui\/g\/([^/]+)\/w\/([^/]+)(?:\/(jobs|clusters|fs|e|c)(?:\/([^/]+))?(?:\/j\/([^/]+))?)?/.exec(path);
  if (!found) {
    const section = path.split("/")[2] ?? "";
    const { g, w } = query;
    if (section === "new" && g && w) {
      return { g, w, section, crumbs: [{ name: g }, { name: w, href: at.workspace(g, w) }, { name: "new" }] };
    }
    const names: Record<string, string> = { activity: "Activity", usage: "Usage", new: "New" };
    return { section, crumbs: names[section] ? [{ name: names[section] as string }] : [] };
  }
  const [g = "", w = "", kind, name, job] = found.slice(1).map((part) => part && decodeURIComponent(part));
  const crumbs: Place["crumbs"] = [{ name: g }, { name: w, href: at.workspace(g, w) }];
  if (kind === "e" && name) crumbs.push({ name, href: at.experiment(g, w, name) });
  if (job) crumbs.push({ name: job });
  if (kind === "c" && name) crumbs.push({ name: "clusters", href: at.clusters(g, w) }, { name });
  if (kind === "fs" && name) crumbs.push({ name: "file servers", href: at.fileServers(g, w) }, { name });
  const section = kind === "e" ? "jobs" : kind === "c" ? "clusters" : (kind ?? "overview");
  return { g, w, section, crumbs };
}

export function Frame({ children }: { children: ComponentChildren }) {
  const { path, query } = useLocation();
  const { g, w, section, crumbs } = place(path, query);
  if (g && w) suggestScope(`${root()}/resourceGroups/${g}/providers/Microsoft.BatchAI/workspaces/${w}`);
  const tabs: [string, string, string][] =
    g && w
      ? [
          ["overview", "Overview", at.workspace(g, w)],
          ["jobs", "Jobs", at.jobs(g, w)],
          ["clusters", "Clusters", at.clusters(g, w)],
          ["fs", "File servers", at.fileServers(g, w)],
        ]
      : [["", "Workspaces", at.home]];
  tabs.push(["activity", "Activity", at.activity], ["usage", "Usage", at.usage]);
  return (
    <>
      <a class="skip" href="#main" onClick={() => document.querySelector<HTMLElement>("main")?.focus()}>
        Skip to content
      </a>
      <header class="top">
        <nav class="crumbs" aria-label="Where you are">
          <a href={at.home} class="brand">
            <img src="/ui/icon.svg" alt="" width="20" height="20" />
            batchyard
          </a>
          {crumbs.map((crumb, index) => (
            <span key={index} class="crumb">
              <span aria-hidden="true">▸</span>
              {crumb.href && index < crumbs.length - 1 ? <a href={crumb.href}>{crumb.name}</a> : <span>{crumb.name}</span>}
            </span>
          ))}
        </nav>
        <button type="button" class="find" onClick={() => (open.value = "find")} aria-keyshortcuts="/">
          Find or paste an id <kbd aria-hidden="true">/</kbd>
        </button>
        <Link />
        <Menu />
      </header>
      <nav class="sections" aria-label="Sections">
        {tabs.map(([id, name, href]) => (
          <a key={id} href={href} aria-current={section === id ? "page" : undefined}>
            {name}
          </a>
        ))}
      </nav>
      <main id="main" tabIndex={-1}>
        {children}
      </main>
    </>
  );
}

/** Whether what is shown is what is. */
function Link() {
  now.value;
  const is = link.value;
  const sign = { live: "●", reconnecting: "◐", offline: "○" }[is];
  const word = is === "offline" && heard.value ? `offline, as of ${clock(heard.value)}` : is;
  return (
    <span class={`link ${is}`} role="status">
      <span aria-hidden="true">{sign}</span> <span>{word}</span>
    </span>
  );
}

function Menu() {
  const signedIn = session.value;
  const menu = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const close = (event: Event): void => {
      if (menu.current?.open && !menu.current.contains(event.target as Node)) menu.current.open = false;
    };
    document.addEventListener("click", close);
    return () => document.removeEventListener("click", close);
  }, []);
  return (
    <details
      class="menu"
      ref={menu}
      onKeyDown={(event) => {
        if (event.key === "Escape" && menu.current) {
          menu.current.open = false;
          menu.current.querySelector("summary")?.focus();
        }
      }}
    >
      <summary>
        <span class="who">{signedIn?.name}</span>
        <span class="zone">{zoneName()}</span>
      </summary>
      <div class="menu-body">
        {signedIn && signedIn.subscriptions.length > 1 && (
          <label class="field">
            <span>Subscription</span>
            <select
              value={signedIn.subscription}
              onChange={(event) => {
                session.value = { ...signedIn, subscription: event.currentTarget.value };
              }}
            >
              {signedIn.subscriptions.map((one) => (
                <option key={one.id} value={one.id}>
                  {one.name}
                </option>
              ))}
            </select>
          </label>
        )}
        <label class="field">
          <span>Colours</span>
          <select value={theme.value} onChange={(event) => (theme.value = event.currentTarget.value as typeof theme.value)}>
            <option value="system">as the system</option>
            <option value="light">light</option>
            <option value="dark">dark</option>
          </select>
        </label>
        <label class="field">
          <span>Times in</span>
          <select value={zone.value} onChange={(event) => (zone.value = event.currentTarget.value as typeof zone.value)}>
            <option value="local">local time</option>
            <option value="utc">UTC</option>
          </select>
        </label>
        <label class="check">
          <input type="checkbox" checked={keys.value === "on"} onChange={(event) => (keys.value = event.currentTarget.checked ? "on" : "off")} />
          Single keys
        </label>
        <button type="button" class="plain" onClick={() => (open.value = "keys")}>
          Keys <kbd aria-hidden="true">?</kbd>
        </button>
        <a href="/docs">API documents</a>
        <button type="button" onClick={() => void leave()}>
          Sign out
        </button>
      </div>
    </details>
  );
}

const KEYS: [string, string][] = [
  ["/ or Ctrl K", "find a workspace, or paste an id"],
  ["g h", "workspaces"],
  ["g j · g c", "jobs · clusters of this workspace"],
  ["g a · g u", "activity · usage"],
  ["j k", "next and previous row"],
  ["Enter · x", "open · select the row"],
  ["1 to 9", "tabs"],
  ["f", "follow the log"],
  ["z", "log fills the window"],
  ["t", "local time or UTC"],
  ["?", "this list"],
  ["Esc", "close"],
];

export function Keys() {
  const { path, query, route } = useLocation();
  useEffect(() => {
    let isGo = false;
    const pressed = (event: KeyboardEvent): void => {
      if (!session.value || document.querySelector("dialog[open]")) return;
      if ((event.ctrlKey || event.metaKey) && event.key === "k") {
        event.preventDefault();
        open.value = "find";
        return;
      }
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input:not([type=checkbox]), textarea, select")) return;
      if (keys.value === "off") return;
      const { g, w } = place(path, query);
      if (isGo) {
        isGo = false;
        const to: Record<string, string> = { h: at.home, a: at.activity, u: at.usage };
        if (g && w) Object.assign(to, { j: at.jobs(g, w), c: at.clusters(g, w) });
        const href = to[event.key];
        if (href) {
          event.preventDefault();
          route(href);
        }
        return;
      }
      switch (event.key) {
        case "/":
          open.value = "find";
          break;
        case "?":
          open.value = "keys";
          break;
        case "g":
          isGo = true;
          break;
        case "t":
          zone.value = zone.value === "utc" ? "local" : "utc";
          break;
        case "j":
        case "k":
          step(event.key === "j" ? 1 : -1);
          break;
        case "x":
          (document.activeElement?.closest("tr")?.querySelector("input[type=checkbox]") as HTMLElement | null)?.click();
          break;
        case "f":
        case "z":
          document.querySelector<HTMLElement>(`[data-key="${event.key}"]`)?.click();
          break;
        default: {
          const tab = /^[1-9]$/.test(event.key) && document.querySelector<HTMLElement>(`[role=tab][data-key="${event.key}"]`);
          if (!tab) return;
          tab.click();
        }
      }
      event.preventDefault();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, [path, query]);
  if (open.value === "find") return <Find />;
  if (open.value === "keys") {
    return (
      <Dialog title="Keys" close={() => (open.value = null)}>
        <dl class="keys">
          {KEYS.map(([key, what]) => (
            <div key={key}>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
        <div class="row end">
          <button type="button" onClick={() => (open.value = null)} autofocus>
            Close
          </button>
        </div>
      </Dialog>
    );
  }
  return null;
}

/** Focus to the next link of a table's rows. */
function step(by: number): void {
  const links = [...document.querySelectorAll<HTMLElement>("tbody tr a.row-link")];
  const here = document.activeElement?.closest("tr")?.querySelector("a.row-link");
  const index = here ? links.indexOf(here as HTMLElement) + by : 0;
  links[Math.max(0, Math.min(links.length - 1, index))]?.focus();
}

function Find() {
  const { route } = useLocation();
  const [text, setText] = useState("");
  const found = useLoad("find", [], () => all<Workspace>(`${root()}/providers/Microsoft.BatchAI/workspaces`, { "api-version": OWN }));
  const close = (): void => {
    open.value = null;
  };
  const byId = show(text);
  const words = text.toLowerCase().trim();
  const matches = (found.state.value.data ?? [])
    .filter((one) => !byId && one.id.toLowerCase().replace(/^.*resourcegroups/, "").includes(words))
    .slice(0, 8);
  const go = (href: string): void => {
    close();
    route(href);
  };
  const first = byId ?? (matches[0] && show(matches[0].id));
  return (
    <Dialog title="Find" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (first) go(first);
        }}
      >
        <label class="field">
          <span>A workspace's name, or the id of anything</span>
          <input type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} autofocus autocomplete="off" spellcheck={false} />
        </label>
        <ul class="found">
          {byId && (
            <li>
              <button type="button" class="plain" onClick={() => go(byId)}>
                Go to <code>{byId.slice(3)}</code>
              </button>
            </li>
          )}
          {matches.map((one) => (
            <li key={one.id}>
              <button type="button" class="plain" onClick={() => go(show(one.id) ?? at.home)}>
                {one.name} <span class="quiet">{/resourceGroups\/([^/]+)/i.exec(one.id)?.[1]}</span>
              </button>
            </li>
          ))}
        </ul>
        <div class="row end">
          <button type="button" onClick={close}>
            Close
          </button>
        </div>
      </form>
    </Dialog>
  );
}
