// What forms ask for, kind by kind: where each field is in the document, and a word on it. Rules are the server's alone; what is not here
// is set in the JSON beside the form.
export type Kind = "workspace" | "cluster" | "job" | "fileServer";

export interface Field {
  /** Where it is in the document. */
  path: string;
  label: string;
  as: "text" | "number" | "area" | "select" | "secret" | "list";
  hint?: string;
  options?: [string, string][];
  /** Of a list: the members of each entry. */
  members?: [string, string][];
  /** Not shown before it is asked for. */
  more?: boolean;
}

export const TITLES: Record<Kind, string> = {
  workspace: "workspace",
  cluster: "cluster",
  job: "job",
  fileServer: "file server",
};

export const STARTS: Record<Kind, unknown> = {
  workspace: { location: "" },
  cluster: {
    properties: {
      vmSize: "STANDARD_D1",
      vmPriority: "dedicated",
      scaleSettings: { manual: { targetNodeCount: 1 } },
      userAccountSettings: { adminUserName: "ops" },
    },
  },
  job: {
    properties: {
      cluster: { id: "" },
      nodeCount: 1,
      customToolkitSettings: { commandLine: "" },
      stdOutErrPathPrefix: "$AZ_BATCHAI_MOUNT_ROOT/shared",
    },
  },
  fileServer: {
    properties: {
      vmSize: "STANDARD_D1",
      sshConfiguration: { userAccountSettings: { adminUserName: "ops" } },
      dataDisks: { diskSizeInGB: 32, diskCount: 1, storageAccountType: "Standard_LRS" },
    },
  },
};

const account = (at: string): Field[] => [
  { path: `${at}.adminUserName`, label: "Administrator", as: "text" },
  { path: `${at}.adminUserSshPublicKey`, label: "SSH public key", as: "area", hint: "a key or a password lets you log in to nodes", more: true },
  { path: `${at}.adminUserPassword`, label: "Password", as: "secret", more: true },
];

export const FIELDS: Record<Kind, Field[]> = {
  workspace: [],
  cluster: [
    { path: "properties.vmSize", label: "Size of a node", as: "text", hint: "as STANDARD_D1; LOCAL is the whole host" },
    { path: "properties.scaleSettings.manual.targetNodeCount", label: "Nodes", as: "number" },
    ...account("properties.userAccountSettings"),
    {
      path: "properties.vmPriority",
      label: "Nodes are",
      as: "select",
      options: [
        ["dedicated", "dedicated"],
        ["lowpriority", "of low priority: they may be taken away"],
      ],
      more: true,
    },
    { path: "properties.nodeSetup.setupTask.commandLine", label: "Setup command on each node", as: "area", more: true },
    { path: "properties.nodeSetup.setupTask.stdOutErrPathPrefix", label: "Where its output goes", as: "text", more: true },
  ],
  job: [
    { path: "properties.cluster.id", label: "Cluster", as: "select" },
    { path: "properties.nodeCount", label: "Nodes", as: "number", hint: "all at once, or none" },
    { path: "properties.customToolkitSettings.commandLine", label: "Command", as: "area", hint: "run by a shell on the first node" },
    { path: "properties.stdOutErrPathPrefix", label: "Where output goes", as: "text", hint: "kept by the server where nothing is mounted there" },
    { path: "properties.constraints.maxWallClockTime", label: "Time limit", as: "text", hint: "as PT2H or P1D; a week otherwise", more: true },
    { path: "properties.jobPreparation.commandLine", label: "Preparation on each node", as: "area", more: true },
    {
      path: "properties.environmentVariables",
      label: "Variables",
      as: "list",
      members: [
        ["name", "Name"],
        ["value", "Value"],
      ],
      more: true,
    },
    {
      path: "properties.inputDirectories",
      label: "Inputs",
      as: "list",
      hint: "known to the job as $AZ_BATCHAI_INPUT_ID",
      members: [
        ["id", "Id"],
        ["path", "Path"],
      ],
      more: true,
    },
    {
      path: "properties.outputDirectories",
      label: "Outputs",
      as: "list",
      hint: "known to the job as $AZ_BATCHAI_OUTPUT_ID",
      members: [
        ["id", "Id"],
        ["pathPrefix", "Below"],
        ["pathSuffix", "Folder"],
      ],
      more: true,
    },
    { path: "properties.containerSettings.imageSourceRegistry.image", label: "Container image", as: "text", more: true },
    {
      path: "properties.schedulingPriority",
      label: "Priority",
      as: "select",
      options: [
        ["", "normal"],
        ["low", "low"],
        ["high", "high"],
      ],
      more: true,
    },
  ],
  fileServer: [
    { path: "properties.vmSize", label: "Size", as: "text" },
    { path: "properties.dataDisks.diskCount", label: "Disks", as: "number" },
    { path: "properties.dataDisks.diskSizeInGB", label: "GiB of each", as: "number" },
    {
      path: "properties.dataDisks.storageAccountType",
      label: "Storage",
      as: "select",
      options: [
        ["Standard_LRS", "standard"],
        ["Premium_LRS", "premium"],
      ],
    },
    ...account("properties.sshConfiguration.userAccountSettings"),
  ],
};

type Tree = Record<string, unknown>;

export function get(document: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>((at, name) => (at && typeof at === "object" ? (at as Tree)[name] : undefined), document);
}

/** The document with another value at a path; an empty one takes the member out, and what is empty without it. */
export function set(document: unknown, path: string, value: unknown): unknown {
  const [name = "", ...rest] = path.split(".");
  const from: Tree = document && typeof document === "object" ? { ...(document as Tree) } : {};
  const inner = rest.length > 0 ? set(from[name], rest.join("."), value) : value;
  const isEmpty = inner === undefined || inner === "" || (typeof inner === "object" && inner !== null && Object.keys(inner).length === 0);
  if (isEmpty) delete from[name];
  else from[name] = inner;
  return from;
}

const READ_ONLY = [
  "experimentName",
  "jobOutputDirectoryPathSegment",
  "creationTime",
  "provisioningState",
  "provisioningStateTransitionTime",
  "executionState",
  "executionStateTransitionTime",
  "executionInfo",
  "allocationState",
  "allocationStateTransitionTime",
  "currentNodeCount",
  "nodeStateCounts",
  "errors",
  "toolType",
  "mountSettings",
];

/** What one would send to make the same again. Secrets are not shown by the server, and have to be given again. */
export function template(resource: { properties: Tree }): unknown {
  const properties = Object.fromEntries(Object.entries(resource.properties).filter(([name]) => !READ_ONLY.includes(name)));
  return { properties };
}

const SECRET = /password|accountKey|connectionString/i;

/** The document without secrets, as a draft may be kept. */
export function withoutSecrets(document: unknown): unknown {
  if (Array.isArray(document)) return document.map(withoutSecrets);
  if (!document || typeof document !== "object") return document;
  const kept = Object.entries(document).flatMap(([name, value]): [string, unknown][] => {
    if (SECRET.test(name)) return [];
    if (name === "secrets" && Array.isArray(value)) {
      return [[name, (value as Tree[]).map(({ value: _, ...rest }) => rest)]];
    }
    return [[name, withoutSecrets(value)]];
  });
  return Object.fromEntries(kept);
}
