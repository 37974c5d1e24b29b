// What is done to things: each asks first, says what is lost, and believes the server alone.
import { Refused, ask } from "../api";
import { plural } from "../format";
import { named } from "../paths";
import type { Cluster } from "../types";
import { tell } from "./basics";
import { confirm } from "./dialog";

const nouns: Record<string, string> = { fileServer: "file server" };

function noun(id: string): string {
  const kind = named(id)?.kind ?? "";
  return nouns[kind] ?? kind;
}

interface Lost {
  /** What goes with it, in sentences. */
  losses?: string[];
  etag?: string | null;
  done?: () => void;
}

/** Asks whether to delete something; its name is typed where more goes along. */
export function askDelete(id: string, { losses = [], etag, done }: Lost = {}): void {
  const name = named(id)?.name ?? id;
  confirm({
    title: `Delete the ${noun(id)} ${name}?`,
    body: (
      <>
        {losses.map((loss) => (
          <p key={loss}>{loss}</p>
        ))}
        <p>This cannot be undone.</p>
      </>
    ),
    verb: "Delete",
    ...(losses.length > 0 && { typed: name }),
    act: async () => {
      const answer = await ask(id, { method: "DELETE", ...(etag && { etag }) });
      tell(answer.status === 204 ? `${name} was gone already.` : `${name} is being deleted.`);
      done?.();
    },
  });
}

export function askDeleteCluster(cluster: Cluster, running: number, etag: string | null): void {
  const nodes = cluster.properties.currentNodeCount;
  const losses: string[] = [];
  if (nodes > 0) losses.push(`${plural(nodes, "node")} and what is on them go. Files on mounted storage stay.`);
  if (running > 0) losses.push(`${plural(running, "running job")} of this cluster will be ended.`);
  askDelete(cluster.id, { losses, etag });
}

export function askTerminate(id: string): void {
  const name = named(id)?.name ?? id;
  confirm({
    title: `Terminate the job ${name}?`,
    body: <p>Its processes are ended on every node. What it wrote so far is kept, and so is the job.</p>,
    verb: "Terminate",
    act: async () => {
      const answer = await ask(`${id}/terminate`, { method: "POST" });
      tell(answer.status === 204 ? `${name} had ended already.` : `${name} is being terminated.`);
    },
  });
}

/** The same for many: every one is asked for, and each failure is told. */
export function askMany(ids: string[], verb: "Delete" | "Terminate", done: () => void): void {
  const names = ids.slice(0, 12).map((id) => named(id)?.name ?? id);
  confirm({
    title: `${verb} ${plural(ids.length, "job")}?`,
    body: (
      <>
        <p>
          {names.join(", ")}
          {ids.length > names.length && ` and ${ids.length - names.length} more`}
        </p>
        <p>{verb === "Delete" ? "Jobs that run are ended. This cannot be undone." : "Jobs that have ended stay as they are."}</p>
      </>
    ),
    verb: `${verb} ${ids.length}`,
    ...(ids.length > 20 && verb === "Delete" && { typed: String(ids.length) }),
    act: async () => {
      const failures: string[] = [];
      const rest = [...ids];
      const work = async (): Promise<void> => {
        for (let id = rest.pop(); id; id = rest.pop()) {
          try {
            await (verb === "Delete" ? ask(id, { method: "DELETE" }) : ask(`${id}/terminate`, { method: "POST" }));
          } catch (cause) {
            failures.push(`${named(id)?.name}: ${cause instanceof Refused ? cause.message : String(cause)}`);
          }
        }
      };
      await Promise.all([work(), work(), work(), work()]);
      done();
      const well = ids.length - failures.length;
      const word = verb === "Delete" ? "deleted" : "terminated";
      if (failures.length === 0) tell(`${plural(well, "job")} ${well === 1 ? "is" : "are"} being ${word}.`);
      else tell(`${well} of ${ids.length} are being ${word}. ${failures.slice(0, 3).join(" · ")}`, true);
    },
  });
}
