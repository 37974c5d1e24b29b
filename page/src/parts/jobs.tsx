// How jobs are shown wherever they are: their state, and why it is so in a few words.
import { named } from "../paths";
import { at } from "../paths";
import type { Cluster, Job } from "../types";
import { State } from "./basics";

export function jobState(job: Job): string {
  return job.properties.provisioningState === "Deleting" ? "Deleting" : job.properties.executionState;
}

export function isOver(job: Job): boolean {
  return ["Succeeded", "Failed"].includes(job.properties.executionState);
}

export function JobState({ of }: { of: Job }) {
  return <State is={jobState(of)} />;
}

/** The cause of a failure, or what a job asks for while it waits. */
export function why(job: Job, cluster?: Cluster | null): string {
  const { executionState, executionInfo, nodeCount } = job.properties;
  if (executionState === "Failed") {
    const error = executionInfo?.errors?.[0];
    const exit = executionInfo?.exitCode;
    return [exit !== undefined && exit !== 0 && `exit ${exit}`, error?.message ?? error?.code].filter(Boolean).join(": ");
  }
  if (executionState === "Queued" && cluster) {
    const idle = cluster.properties.nodeStateCounts.idleNodeCount;
    return `needs ${nodeCount}, ${idle} idle of ${cluster.properties.currentNodeCount}`;
  }
  if (executionState === "Queued") return `needs ${nodeCount}`;
  return "";
}

export function clusterName(job: Job): string {
  return named(job.properties.cluster.id)?.name ?? "";
}

export function jobHref(job: Job): string {
  const what = named(job.id);
  return what ? at.job(what.g, what.w, what.parent ?? "", what.name) : at.home;
}
