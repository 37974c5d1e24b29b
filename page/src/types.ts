// The shapes of version 2026-11-01-preview that the page reads.
export interface EntityError {
  code: string;
  message: string;
  details?: { name: string; value: string }[];
}

export interface Resource<P> {
  id: string;
  name: string;
  type: string;
  location?: string;
  tags?: Record<string, string>;
  properties: P;
  systemData?: { createdAt: string; createdBy?: string; lastModifiedAt: string; lastModifiedBy?: string };
}

interface Provisioned {
  provisioningState: string;
  creationTime: string;
}

export type Group = { id: string; name: string; location: string };
export type Workspace = Resource<Provisioned>;
export type Experiment = Resource<Provisioned>;

export interface ScaleSettings {
  manual?: { targetNodeCount: number; nodeDeallocationOption?: string };
  autoScale?: { minimumNodeCount: number; maximumNodeCount: number; initialNodeCount?: number };
}

export interface NodeCounts {
  runningNodeCount: number;
  idleNodeCount: number;
  unusableNodeCount: number;
  preparingNodeCount: number;
  leavingNodeCount: number;
}

export type Cluster = Resource<
  Provisioned & {
    allocationState: string;
    allocationStateTransitionTime: string;
    vmSize: string;
    vmPriority: string;
    currentNodeCount: number;
    nodeStateCounts: NodeCounts;
    scaleSettings: ScaleSettings;
    /** What a cluster that scales by its queue is to have now. */
    scaling?: { targetNodeCount: number };
    userAccountSettings: { adminUserName: string };
    errors?: EntityError[];
  }
>;

export type FileServer = Resource<
  Provisioned & {
    provisioningStateTransitionTime: string;
    vmSize: string;
    sshConfiguration: { userAccountSettings: { adminUserName: string } };
    dataDisks: { diskSizeInGB: number; diskCount: number; cachingType: string; storageAccountType: string };
    mountSettings?: { mountPoint: string; fileServerPublicIP: string; fileServerInternalIP: string };
  }
>;

export type Job = Resource<
  Provisioned & {
    experimentName: string;
    cluster: { id: string };
    nodeCount: number;
    toolType: string;
    schedulingPriority: string;
    executionState: string;
    executionStateTransitionTime: string;
    constraints: { maxWallClockTime: string };
    outputDirectories?: { id: string; pathPrefix: string; pathSuffix?: string }[];
    executionInfo?: { startTime?: string; endTime?: string; exitCode?: number; errors?: EntityError[] };
  }
>;

export interface Attempt {
  number: number;
  state: string;
  cause?: string;
  creationTime: string;
  releaseTime?: string;
  endTime?: string;
  nodes: {
    nodeId?: string;
    rank: number;
    state: string;
    startTime?: string;
    endTime?: string;
    end?: string;
    exitCode?: number;
    message?: string;
  }[];
}

/** What something waits for; without a gate nothing is in its way. */
export interface Why {
  gate?: string;
  message?: string;
  lack?: { unit: "Nodes" | "Cores" | "Jobs"; needed: number; available: number; missing: number };
  /** Neither a resource nor a node is named where the caller may not see it. */
  heldBy: { resourceId?: string; nodeId?: string; count: number; until?: string }[];
  clears?: string;
  clearsBy?: string;
}

export type Measure =
  | "cores"
  | "memoryInBytes"
  | "diskReadBytesPerSecond"
  | "diskWrittenBytesPerSecond"
  | "networkInBytesPerSecond"
  | "networkOutBytesPerSecond"
  | "gpuPercent"
  | "gpuMemoryInBytes";

/** What a node used during one step. What it could not tell is left out. */
export type Sample = { time: string } & { [measure in Measure]?: { mean: number; max: number } };

export interface Use {
  nodeId?: string;
  rank?: number;
  points: Sample[];
}

export interface Samples {
  attempt?: number;
  from: string;
  to: string;
  stepInSeconds: number;
  series: Use[];
}

export interface OutputFile {
  name: string;
  fileType: string;
  downloadUrl?: string;
  properties?: { lastModified?: string; contentLength?: number };
}

export interface JobCounts {
  queued: number;
  running: number;
  terminating: number;
  succeeded: number;
  failed: number;
  /** Whether there may be more of a state than the most that is counted, 10,000. */
  capped: boolean;
}

export interface Login {
  nodeId: string;
  ipAddress: string;
  port: number;
}

export interface Node {
  nodeId: string;
  state: string;
  stateTransitionTime: string;
  vmSize: string;
  ipAddress?: string;
  gpus: { id: string; name: string; simulated: boolean }[];
  errors: EntityError[];
}

export interface Change {
  id: string;
  time: string;
  resourceId: string;
  resourceType?: string;
  what: string;
  why: string;
}
