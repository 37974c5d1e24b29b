// Addresses of the page, and what an id of a resource leads to.
const e = encodeURIComponent;

export const at = {
  home: "/ui/",
  workspace: (g: string, w: string) => `/ui/g/${e(g)}/w/${e(w)}`,
  jobs: (g: string, w: string) => `/ui/g/${e(g)}/w/${e(w)}/jobs`,
  experiment: (g: string, w: string, x: string) => `/ui/g/${e(g)}/w/${e(w)}/e/${e(x)}`,
  job: (g: string, w: string, x: string, j: string) => `/ui/g/${e(g)}/w/${e(w)}/e/${e(x)}/j/${e(j)}`,
  clusters: (g: string, w: string) => `/ui/g/${e(g)}/w/${e(w)}/clusters`,
  cluster: (g: string, w: string, c: string) => `/ui/g/${e(g)}/w/${e(w)}/c/${e(c)}`,
  fileServers: (g: string, w: string) => `/ui/g/${e(g)}/w/${e(w)}/fs`,
  fileServer: (g: string, w: string, f: string) => `/ui/g/${e(g)}/w/${e(w)}/fs/${e(f)}`,
  create: (kind: string, g?: string, w?: string, more: Record<string, string> = {}) => {
    const query = new URLSearchParams({ ...(g && { g }), ...(w && { w }), ...more }).toString();
    return `/ui/new/${kind}${query ? `?${query}` : ""}`;
  },
  activity: "/ui/activity",
  usage: "/ui/usage",
};

export interface Named {
  g: string;
  w: string;
  kind: "workspace" | "cluster" | "fileServer" | "experiment" | "job" | "group";
  name: string;
  parent?: string;
}

/** Reads an ARM id; `null` where it is none that the page shows. */
export function named(id: string): Named | null {
  const part = (type: string): string | undefined => new RegExp(`/${type}/([^/]+)`, "i").exec(id)?.[1];
  const g = part("resourceGroups");
  const w = part("workspaces");
  if (!g) return null;
  if (!w) return { g, w: "", kind: "group", name: g };
  const job = part("jobs");
  const experiment = part("experiments");
  const cluster = part("clusters");
  const server = part("fileServers");
  if (job && experiment) return { g, w, kind: "job", name: job, parent: experiment };
  if (experiment) return { g, w, kind: "experiment", name: experiment };
  if (cluster) return { g, w, kind: "cluster", name: cluster };
  if (server) return { g, w, kind: "fileServer", name: server };
  return { g, w, kind: "workspace", name: w };
}

/** Where the page shows what an id names. */
export function show(id: string): string | null {
  const what = named(id);
  if (!what) return null;
  const { g, w, name, parent = "" } = what;
  switch (what.kind) {
    case "job":
      return at.job(g, w, parent, name);
    case "experiment":
      return at.experiment(g, w, name);
    case "cluster":
      return at.cluster(g, w, name);
    case "fileServer":
      return at.fileServer(g, w, name);
    case "workspace":
      return at.workspace(g, w);
    case "group":
      return null;
  }
}
