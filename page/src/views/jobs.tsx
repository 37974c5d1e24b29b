// The jobs of a workspace or of one experiment: found by state, cluster and name, in any number. The choice is in the address.
import { useSignal } from "@preact/signals";
import { useLocation, useRoute } from "preact-iso";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Page, Refused, all, ask, next, read, workspace as pathOf } from "../api";
import { count, jobs as jobCount, plural } from "../format";
import { listen } from "../live";
import { useLoad } from "../load";
import { Age, Copy, Empty, Failure, Skeleton, Time, useTitle } from "../parts/basics";
import { askDelete, askMany } from "../parts/actions";
import { JobState, clusterName, isOver, jobHref, why } from "../parts/jobs";
import { Table } from "../parts/table";
import { at } from "../paths";
import { session } from "../session";
import type { Cluster, Experiment, Job, JobCounts } from "../types";

const STATES = ["Queued", "Running", "Terminating", "Succeeded", "Failed"] as const;
const ORDERS: [string, string][] = [
  ["creationTime desc", "newest first"],
  ["creationTime asc", "oldest first"],
  ["name asc", "by name"],
];
const FIRST = 60;
const MORE = 1000;

interface List {
  rows: Job[];
  follow: string | null;
  error: Refused | null;
  loading: boolean;
  /** Ids of jobs that came since the list was read and are not in it. */
  fresh: Set<string>;
}

const quoted = (text: string): string => `'${text.replace(/'/g, "''")}'`;

/** The list that a path and a query name, read page by page. Rows change in place; new ones wait until they are asked for. */
function useJobs(path: string, filter: string, order: string) {
  const list = useSignal<List>({ rows: [], follow: null, error: null, loading: true, fresh: new Set() });
  const token = session.value?.token;
  const busy = useRef<AbortController | null>(null);
  const key = `${path}\n${filter}\n${order}`;
  const load = async (from: string | null): Promise<void> => {
    busy.current?.abort();
    const mine = new AbortController();
    busy.current = mine;
    try {
      const page = from
        ? await read<Page<Job>>(from, { $top: MORE, maxresults: MORE }, mine.signal)
        : await read<Page<Job>>(path, { $filter: filter || undefined, $orderby: order, $top: FIRST }, mine.signal);
      if (mine.signal.aborted) return;
      // Before the list is: whoever sees the new rows may ask for more at once.
      busy.current = null;
      const rows = from ? [...list.peek().rows, ...page.value] : page.value;
      list.value = { rows, follow: next(page), error: null, loading: false, fresh: from ? list.peek().fresh : new Set() };
    } catch (cause) {
      if (mine.signal.aborted) return;
      list.value = { ...list.peek(), error: cause instanceof Refused ? cause : null, loading: false };
    } finally {
      if (busy.current === mine) busy.current = null;
    }
  };
  useEffect(() => {
    if (!token) return;
    void load(null);
    return () => busy.current?.abort();
  }, [key, token]);
  useEffect(() => {
    const changed = new Set<string>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const refresh = async (): Promise<void> => {
      const ids = [...changed].slice(0, 50);
      changed.clear();
      const known = new Map(list.peek().rows.map((job) => [job.id.toLowerCase(), job]));
      const fresh = new Set(list.peek().fresh);
      const read = new Map<string, Job | null>();
      for (const id of ids) {
        if (!known.has(id)) {
          fresh.add(id);
          continue;
        }
        try {
          read.set(id, (await ask<Job>(known.get(id)?.id ?? id)).body);
        } catch (cause) {
          if (cause instanceof Refused && cause.status === 404) read.set(id, null);
        }
      }
      const rows = list.peek().rows.flatMap((job) => {
        const now = read.get(job.id.toLowerCase());
        return now === null ? [] : [now ?? job];
      });
      list.value = { ...list.peek(), rows, fresh };
      // The first jobs are shown at once: there is nothing under the reader that could move.
      if (fresh.size > 0 && rows.length === 0) void load(null);
    };
    const below = path.toLowerCase().replace(/\/jobs$/, "/");
    const unlisten = listen((change) => {
      const id = change?.resourceId.toLowerCase();
      if (!change) {
        if (!list.peek().loading) void load(null);
        return;
      }
      if (!id?.startsWith(below) || !/\/jobs\/[^/]+$/.test(id)) return;
      changed.add(id);
      timer ??= setTimeout(() => {
        timer = undefined;
        void refresh();
      }, 300);
    });
    return () => {
      unlisten();
      clearTimeout(timer);
    };
  }, [key]);
  return {
    list,
    again: () => void load(null),
    more: () => {
      const { follow } = list.peek();
      if (follow && !busy.current) void load(follow);
    },
  };
}

export function Jobs() {
  const { params } = useRoute();
  const { g = "", w = "", e } = params;
  const { query, route, path: address } = useLocation();
  useTitle(e ? `${e} · ${w}` : `Jobs · ${w}`);
  const path = e ? `${pathOf(g, w)}/experiments/${encodeURIComponent(e)}` : pathOf(g, w);
  const state = query["state"] ?? "";
  const cluster = query["cluster"] ?? "";
  const text = query["q"] ?? "";
  const order = ORDERS.find(([id]) => id === query["sort"])?.[0] ?? ORDERS[0]?.[0] ?? "";
  const filter = [
    state && `executionState eq ${quoted(state)}`,
    cluster && `cluster eq ${quoted(cluster)}`,
    text && `substringof(${quoted(text)}, name)`,
  ]
    .filter(Boolean)
    .join(" and ");
  const counts = useLoad(`${path} counts`, [path], () => read<JobCounts>(`${path}/jobCounts`));
  const clusters = useLoad(`${pathOf(g, w)} clusters`, [`${pathOf(g, w)}/clusters`], () => all<Cluster>(`${pathOf(g, w)}/clusters`));
  const { list, again, more } = useJobs(`${path}/jobs`, filter, order);
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  useEffect(() => setChosen(new Set()), [path, filter]);

  const choose = (name: string, value: string): void => {
    const search = new URLSearchParams(query);
    if (value) search.set(name, value);
    else search.delete(name);
    const rest = search.toString();
    route(`${address}${rest ? `?${rest}` : ""}`, true);
  };
  const { rows, follow, error, loading, fresh } = list.value;
  const known = counts.state.value.data;
  const sum = known ? known.queued + known.running + known.terminating + known.succeeded + known.failed : 0;
  const ofState = state && known ? Number(known[state.toLowerCase() as keyof JobCounts]) : sum;
  const total = follow ? Math.max(rows.length + 1, cluster || text ? 0 : ofState) : rows.length;
  const clusterOf = useMemo(() => {
    const byId = new Map((clusters.state.value.data ?? []).map((one) => [one.id.toLowerCase(), one]));
    return (job: Job) => byId.get(job.properties.cluster.id.toLowerCase());
  }, [clusters.state.value.data]);
  const selected = rows.filter((job) => chosen.has(job.id));
  const endable = selected.filter((job) => !isOver(job));
  return (
    <section>
      <div class="head">
        <h1>{e ?? "Jobs"}</h1>
        {e && <span class="quiet">experiment in {w}</span>}
        <div class="row end">
          <a class="button main" href={at.create("job", g, w, e ? { e } : {})}>
            New job
          </a>
        </div>
      </div>
      <div class="filters" role="search" aria-label="Jobs">
        <div class="counts" role="group" aria-label="State">
          <button type="button" aria-pressed={state === ""} onClick={() => choose("state", "")}>
            all <b>{count(sum)}{known?.capped && "+"}</b>
          </button>
          {STATES.filter((one) => one !== "Terminating" || state === one || (known?.terminating ?? 0) > 0).map((one) => (
            <button key={one} type="button" aria-pressed={state === one} onClick={() => choose("state", state === one ? "" : one)}>
              <span class={`s-${one.toLowerCase()}`}>{one.toLowerCase()}</span> <b>{known ? jobCount(Number(known[one.toLowerCase() as keyof JobCounts])) : ""}</b>
            </button>
          ))}
        </div>
        <label>
          <span class="hidden-text">Cluster</span>
          <select value={cluster} onChange={(event) => choose("cluster", event.currentTarget.value)}>
            <option value="">any cluster</option>
            {(clusters.state.value.data ?? []).map((one) => (
              <option key={one.id}>{one.name}</option>
            ))}
          </select>
        </label>
        <label>
          <span class="hidden-text">Order</span>
          <select value={order} onChange={(event) => choose("sort", event.currentTarget.value)}>
            {ORDERS.map(([id, name]) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <Search key={address} text={text} choose={(value) => choose("q", value)} />
      </div>
      {error && <Failure error={error} again={again} />}
      {fresh.size > 0 && (
        <button type="button" class="fresh" onClick={again}>
          {plural(fresh.size, "new job")} · show
        </button>
      )}
      {loading && rows.length === 0 ? (
        <Skeleton lines={12} />
      ) : rows.length === 0 ? (
        <Empty>
          {filter ? (
            <>
              <p>No job fits. {count(sum)} are filtered away.</p>
              <p>
                <a class="button" href={address}>
                  Show all
                </a>
              </p>
            </>
          ) : (
            <>
              <p>No job yet.</p>
              <p>
                <a class="button" href={at.create("job", g, w, e ? { e } : {})}>
                  Submit the first
                </a>
              </p>
            </>
          )}
        </Empty>
      ) : (
        <Table
          label={e ? `Jobs of ${e}` : `Jobs of ${w}`}
          rows={rows}
          id={(job) => job.id}
          total={total}
          more={more}
          selected={chosen}
          named={(job) => job.name}
          select={(id, is) => {
            const now = new Set(chosen);
            if (is) now.add(id);
            else now.delete(id);
            setChosen(now);
          }}
          selectAll={(is) => setChosen(new Set(is ? rows.map((job) => job.id) : []))}
          columns={[
            {
              name: "Job",
              cell: (job) => (
                <a class="row-link" href={jobHref(job)}>
                  {job.name}
                </a>
              ),
            },
            { name: "State", cell: (job) => <JobState of={job} /> },
            { name: "Why", as: "wide low", cell: (job) => <span title={why(job)}>{why(job, clusterOf(job))}</span> },
            ...(e
              ? []
              : [
                  {
                    name: "Experiment",
                    as: "low",
                    cell: (job: Job) => <a href={at.experiment(g, w, job.properties.experimentName)}>{job.properties.experimentName}</a>,
                  },
                ]),
            { name: "Cluster", as: "low", cell: (job) => <a href={at.cluster(g, w, clusterName(job))}>{clusterName(job)}</a> },
            { name: "Nodes", as: "n low", cell: (job) => job.properties.nodeCount },
            {
              name: "Took",
              as: "n",
              cell: (job) => <Age from={job.properties.executionInfo?.startTime} to={job.properties.executionInfo?.endTime} />,
            },
            { name: "Submitted", as: "n low", cell: (job) => <Time at={job.properties.creationTime} /> },
          ]}
        />
      )}
      {selected.length > 0 && (
        <div class="bulk" role="region" aria-label="Selected jobs">
          <b>{count(selected.length)} selected</b>
          <button type="button" disabled={endable.length === 0} onClick={() => askMany(endable.map((job) => job.id), "Terminate", () => setChosen(new Set()))}>
            Terminate {endable.length || ""}
          </button>
          <button type="button" class="danger" onClick={() => askMany(selected.map((job) => job.id), "Delete", () => setChosen(new Set()))}>
            Delete {selected.length}
          </button>
          <button type="button" class="plain" onClick={() => setChosen(new Set())}>
            Clear
          </button>
        </div>
      )}
      <p class="quiet foot">
        {count(rows.length)} of {count(Math.max(total, rows.length))} loaded
      </p>
      {e && <ExperimentFoot path={path} e={e} counts={known} />}
    </section>
  );
}

function Search({ text, choose }: { text: string; choose: (value: string) => void }) {
  const [typed, setTyped] = useState(text);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  return (
    <label class="grow">
      <span class="hidden-text">Name contains</span>
      <input
        type="search"
        placeholder="name contains …"
        value={typed}
        onInput={(event) => {
          const value = event.currentTarget.value;
          setTyped(value);
          clearTimeout(timer.current);
          timer.current = setTimeout(() => choose(value.trim()), 300);
        }}
        spellcheck={false}
      />
    </label>
  );
}

function ExperimentFoot({ path, e, counts }: { path: string; e: string; counts: JobCounts | null }) {
  const sum = counts ? counts.queued + counts.running + counts.terminating + counts.succeeded + counts.failed : 0;
  return (
    <footer class="actions">
      <Copy text={path} what="id" />
      <button
        type="button"
        class="plain bad"
        onClick={() =>
          void ask<Experiment>(path).then(({ etag }) =>
            askDelete(path, { losses: sum > 0 ? [`${plural(sum, "job")} of ${e} go, of which ${counts?.running ?? 0} run.`] : [], etag }),
          )
        }
      >
        Delete the experiment …
      </button>
    </footer>
  );
}
