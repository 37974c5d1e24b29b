// Making things: a form and the JSON that it writes, side by side and one document. The server alone judges it; what it finds wrong
// stands beside the field it is about.
import { useLocation, useRoute } from "preact-iso";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Refused, all, ask, group as groupPath, read, root, workspace as workspacePath } from "../api";
import type { Violation } from "../api";
import { useLoad } from "../load";
import { Shown, tell, useTitle } from "../parts/basics";
import { at, named } from "../paths";
import type { Cluster, Experiment, Group, Workspace } from "../types";
import { FIELDS, type Field, type Kind, STARTS, TITLES, get, set, template, withoutSecrets } from "./forms";

interface Choices {
  groups: string[];
  workspaces: string[];
  experiments: string[];
  clusters: Cluster[];
  locations: string[];
  from: unknown;
}

async function load(g: string, w: string, from: string): Promise<Choices> {
  const inside = g && w ? workspacePath(g, w) : null;
  const [groups, workspaces, locations, experiments, clusters, source] = await Promise.all([
    all<Group>(`${root()}/resourceGroups`),
    all<Workspace>(`${root()}/providers/Microsoft.BatchAI/workspaces`),
    all<{ name: string }>(`${root()}/locations`),
    inside ? all<Experiment>(`${inside}/experiments`) : [],
    inside ? all<Cluster>(`${inside}/clusters`) : [],
    from ? read<{ properties: Record<string, unknown> }>(from) : null,
  ]);
  return {
    groups: groups.map((one) => one.name),
    workspaces: workspaces.filter((one) => named(one.id)?.g.toLowerCase() === g.toLowerCase()).map((one) => one.name),
    experiments: experiments.map((one) => one.name),
    clusters,
    locations: locations.map((one) => one.name),
    from: source && template(source),
  };
}

export function Create() {
  const { kind = "" } = useRoute().params;
  const { query } = useLocation();
  const known = kind in TITLES ? (kind as Kind) : null;
  useTitle(known ? `New ${TITLES[known]}` : "New");
  const g = query["g"] ?? "";
  const w = query["w"] ?? "";
  const from = query["from"] ?? "";
  const choices = useLoad(`create ${g} ${w} ${from}`, g && w ? [`${workspacePath(g, w)}/clusters`] : [], () => load(g, w, from));
  if (!known) return <h1>There is no such form</h1>;
  return (
    <section class="create">
      <Shown of={choices} lines={8} title={`New ${TITLES[known]}`}>
        {(loaded) => <Form key={`${known} ${g} ${w} ${from}`} kind={known} g={g} w={w} from={from} choices={loaded} />}
      </Shown>
    </section>
  );
}

/** The cluster with the most idle nodes. */
function readiest(clusters: Cluster[]): Cluster | undefined {
  const idle = (one: Cluster): number => one.properties.nodeStateCounts.idleNodeCount;
  return [...clusters].sort((a, b) => idle(b) - idle(a))[0];
}

function Form({ kind, g, w, from, choices }: { kind: Kind; g: string; w: string; from: string; choices: Choices }) {
  const { query, route } = useLocation();
  const draft = `batchyard.draft.${kind}.${g}.${w}.${from}`;
  const [document, setDocument] = useState<unknown>(() => {
    const kept = sessionStorage.getItem(draft);
    if (kept) return JSON.parse(kept) as unknown;
    let start = choices.from ?? structuredClone(STARTS[kind]);
    if (kind === "workspace") start = set(start, "location", choices.locations[0] ?? "");
    const cluster = query["cluster"] ? choices.clusters.find((one) => one.name === query["cluster"]) : readiest(choices.clusters);
    if (kind === "job" && !from && cluster) start = set(start, "properties.cluster.id", cluster.id);
    return start;
  });
  const [name, setName] = useState("");
  const [group, setGroup] = useState(g || choices.groups[0] || "");
  const [experiment, setExperiment] = useState(query["e"] ?? (from ? (named(from)?.parent ?? "") : (choices.experiments[0] ?? "")));
  const [isJson, setJson] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Refused | null>(null);
  useEffect(() => sessionStorage.setItem(draft, JSON.stringify(withoutSecrets(document))), [document, draft]);

  const fields = FIELDS[kind];
  const violations = problem?.details ?? [];
  const of = (path: string): Violation[] =>
    violations.filter(({ target = "" }) => target === path || target.startsWith(`${path}.`) || target.startsWith(`${path}[`));
  const shown = isJson ? [] : [...fields.map((field) => field.path), ...(kind === "workspace" ? ["location"] : [])];
  const elsewhere = violations.filter((one) => !shown.some((path) => of(path).includes(one)));

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      const made = await make(kind, { group, w, experiment, name }, document, choices);
      sessionStorage.removeItem(draft);
      tell(`${name} is made.`);
      route(made);
    } catch (cause) {
      setProblem(cause instanceof Refused ? cause : new Refused(0, "PageFailed", String(cause), [], ""));
      setBusy(false);
      requestAnimationFrame(() => {
        const bad = window.document.querySelector<HTMLElement>("[aria-invalid=true]") ?? window.document.querySelector<HTMLElement>(".problem");
        bad?.focus();
      });
    }
  };
  const main = fields.filter((field) => !field.more);
  const more = fields.filter((field) => field.more);
  const hasMore = more.some((field) => get(document, field.path) !== undefined || of(field.path).length > 0);
  const one = (field: Field) => (
    <Input key={field.path} field={field} choices={choices} value={get(document, field.path)} violations={of(field.path)} change={(value) => setDocument(set(document, field.path, value))} />
  );
  return (
    <form onSubmit={(event) => void submit(event)} noValidate>
      <div class="head">
        <h1>
          New {TITLES[kind]}
          {w && <span class="quiet"> in {w}</span>}
          {from && <span class="quiet">, from {named(from)?.name}</span>}
        </h1>
        {kind !== "workspace" && (
          <div class="choice" role="group" aria-label="View">
            <button type="button" aria-pressed={!isJson} onClick={() => setJson(false)}>
              Form
            </button>
            <button type="button" aria-pressed={isJson} onClick={() => setJson(true)}>
              JSON
            </button>
          </div>
        )}
      </div>
      {problem && (
        <div class="failure problem" role="alert" tabIndex={-1}>
          <strong>
            {violations.length > 1 ? `${violations.length} problems` : problem.status === 412 ? "This name is taken" : "It was refused"}
          </strong>
          {(violations.length === 0 || problem.status === 412) && (
            <p>
              {problem.message} <code>{problem.code}</code>
            </p>
          )}
          {elsewhere.map((violation) => (
            <p key={violation.target}>
              {violation.message} <code>{violation.target}</code>
            </p>
          ))}
          {violations.length > elsewhere.length && <p>See the marked fields.</p>}
          {problem.request && <p class="quiet">Request {problem.request}</p>}
        </div>
      )}
      <div class="fields">
        <Text label="Name" value={name} set={setName} bad={/InvalidResourceName/.test(problem?.code ?? "")} required />
        {kind === "workspace" && (
          <>
            <Text label="Resource group" value={group} set={setGroup} hint="made where there is none of this name" list={choices.groups} required />
            <label class="field">
              <span>Region</span>
              <select
                value={String(get(document, "location") ?? "")}
                aria-invalid={of("location").length > 0}
                onChange={(event) => setDocument(set(document, "location", event.currentTarget.value))}
              >
                {choices.locations.map((location) => (
                  <option key={location}>{location}</option>
                ))}
              </select>
            </label>
          </>
        )}
        {kind === "job" && (
          <Text label="Experiment" value={experiment} set={setExperiment} hint="made where there is none of this name" list={choices.experiments} required />
        )}
        {isJson ? <JsonField document={document} change={setDocument} /> : main.map(one)}
      </div>
      {!isJson && more.length > 0 && (
        <details class="more" open={hasMore}>
          <summary>More</summary>
          <div class="fields">{more.map(one)}</div>
        </details>
      )}
      <div class="row">
        <button type="submit" class="main" disabled={isBusy || !name}>
          {isBusy ? "Asking the server …" : kind === "job" ? "Submit" : "Create"}
        </button>
        <a href={g && w ? at.workspace(g, w) : at.home} onClick={() => sessionStorage.removeItem(draft)}>
          Cancel
        </a>
      </div>
    </form>
  );
}

interface Where {
  group: string;
  w: string;
  experiment: string;
  name: string;
}

/** Makes what is to hold it where that is missing, then the thing itself. Answers where the page shows it. */
async function make(kind: Kind, { group, w, experiment, name }: Where, document: unknown, choices: Choices): Promise<string> {
  const within = workspacePath(group, w);
  const isIn = (list: string[], wanted: string): boolean => list.some((one) => one.toLowerCase() === wanted.toLowerCase());
  switch (kind) {
    case "workspace":
      if (!isIn(choices.groups, group)) await ask(groupPath(group), { method: "PUT", body: { location: get(document, "location") } });
      await ask(workspacePath(group, name), { method: "PUT", body: document, absent: true });
      return at.workspace(group, name);
    case "cluster":
      await ask(`${within}/clusters/${encodeURIComponent(name)}`, { method: "PUT", body: document, absent: true });
      return at.cluster(group, w, name);
    case "fileServer":
      await ask(`${within}/fileServers/${encodeURIComponent(name)}`, { method: "PUT", body: document, absent: true });
      return at.fileServer(group, w, name);
    case "job": {
      const holder = `${within}/experiments/${encodeURIComponent(experiment)}`;
      if (!isIn(choices.experiments, experiment)) await ask(holder, { method: "PUT" });
      await ask(`${holder}/jobs/${encodeURIComponent(name)}`, { method: "PUT", body: document, absent: true });
      return at.job(group, w, experiment, name);
    }
  }
}

function Text({ label, value, set, hint, list, bad, required }: {
  label: string;
  value: string;
  set: (value: string) => void;
  hint?: string;
  list?: string[];
  bad?: boolean;
  required?: boolean;
}) {
  const id = `list-${label.replace(/\W/g, "")}`;
  return (
    <label class="field">
      <span>
        {label} {hint && <small>{hint}</small>}
      </span>
      <input
        value={value}
        onInput={(event) => set(event.currentTarget.value)}
        list={list && id}
        aria-invalid={bad ?? false}
        required={required ?? false}
        autocomplete="off"
        spellcheck={false}
      />
      {list && (
        <datalist id={id}>
          {list.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
      )}
    </label>
  );
}

interface InputProps {
  field: Field;
  choices: Choices;
  value: unknown;
  violations: Violation[];
  change: (value: unknown) => void;
}

function Input({ field, choices, value, violations, change }: InputProps) {
  const id = `field-${field.path.replace(/\W/g, "-")}`;
  const isBad = violations.length > 0;
  const shared = { id, "aria-invalid": isBad, "aria-describedby": isBad ? `${id}-bad` : undefined };
  const text = value === undefined || value === null ? "" : String(value);
  const options = useMemo(() => {
    if (field.path !== "properties.cluster.id") return field.options ?? [];
    const listed = choices.clusters.map((one): [string, string] => [
      one.id,
      `${one.name}: ${one.properties.nodeStateCounts.idleNodeCount} idle of ${one.properties.currentNodeCount}, ${one.properties.vmSize}`,
    ]);
    const isListed = listed.some(([id]) => id.toLowerCase() === text.toLowerCase());
    return isListed ? listed : ([[text, text ? text : "choose a cluster"], ...listed] as [string, string][]);
  }, [field, choices.clusters, text]);
  if (field.as === "list") return <List field={field} value={value} violations={violations} change={change} />;
  return (
    <div class="field">
      <label for={id}>
        {field.label} {field.hint && <small>{field.hint}</small>}
      </label>
      {field.as === "select" ? (
        <select {...shared} value={options.find(([id]) => id.toLowerCase() === text.toLowerCase())?.[0] ?? text} onChange={(event) => change(event.currentTarget.value)}>
          {options.map(([id, name]) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
      ) : field.as === "area" ? (
        <textarea {...shared} rows={3} value={text} onInput={(event) => change(event.currentTarget.value)} spellcheck={false} />
      ) : (
        <input
          {...shared}
          {...(field.as === "number" ? { type: "number" } : field.as === "secret" ? { type: "password" } : { type: "text" })}
          value={text}
          onInput={(event) => {
            const typed = event.currentTarget.value;
            change(field.as === "number" && typed !== "" ? Number(typed) : typed);
          }}
          autocomplete={field.as === "secret" ? "new-password" : "off"}
          spellcheck={false}
        />
      )}
      {isBad && (
        <span class="violation" id={`${id}-bad`}>
          {violations.map((one) => one.message).join(" ")}
        </span>
      )}
    </div>
  );
}

function List({ field, value, violations, change }: Omit<InputProps, "choices">) {
  const entries = Array.isArray(value) ? (value as Record<string, string>[]) : [];
  const members = field.members ?? [];
  return (
    <fieldset class="field list">
      <legend>
        {field.label} {field.hint && <small>{field.hint}</small>}
      </legend>
      {entries.map((entry, index) => (
        <div key={index} class="row">
          {members.map(([member, label]) => (
            <input
              key={member}
              aria-label={`${label} of ${field.label.toLowerCase()} ${index + 1}`}
              aria-invalid={violations.some(({ target }) => target === `${field.path}[${index}].${member}`)}
              placeholder={label}
              value={entry[member] ?? ""}
              onInput={(event) => change(entries.map((old, at) => (at === index ? { ...old, [member]: event.currentTarget.value } : old)))}
              spellcheck={false}
            />
          ))}
          <button type="button" class="plain" aria-label={`Remove ${field.label.toLowerCase()} ${index + 1}`} onClick={() => change(entries.filter((_, at) => at !== index))}>
            ×
          </button>
        </div>
      ))}
      <button type="button" onClick={() => change([...entries, Object.fromEntries(members.map(([member]) => [member, ""]))])}>
        Add
      </button>
      {violations.length > 0 && <span class="violation">{violations.map((one) => one.message).join(" ")}</span>}
    </fieldset>
  );
}

function JsonField({ document, change }: { document: unknown; change: (document: unknown) => void }) {
  const [text, setText] = useState(() => JSON.stringify(document, null, 2));
  const [error, setError] = useState<string | null>(null);
  return (
    <div class="field whole">
      <label for="json-document">The document that is sent</label>
      <textarea
        id="json-document"
        class="code"
        rows={24}
        value={text}
        aria-invalid={error !== null}
        spellcheck={false}
        onInput={(event) => {
          const typed = event.currentTarget.value;
          setText(typed);
          try {
            change(JSON.parse(typed));
            setError(null);
          } catch (cause) {
            setError((cause as Error).message);
          }
        }}
      />
      {error && (
        <span class="violation" role="alert">
          This is no JSON yet: {error}
        </span>
      )}
    </div>
  );
}
