// The file servers of a workspace, and one of them: whether it is there, and how it is mounted.
import { useRoute } from "preact-iso";
import { all, ask, workspace as pathOf } from "../api";
import { useLoad } from "../load";
import { Copy, Empty, Facts, Json, Shown, State, Time, useTitle } from "../parts/basics";
import { askDelete } from "../parts/actions";
import { Table } from "../parts/table";
import { at } from "../paths";
import type { FileServer } from "../types";

export function FileServers() {
  const { g = "", w = "" } = useRoute().params;
  useTitle(`File servers · ${w}`);
  const path = `${pathOf(g, w)}/fileServers`;
  const loading = useLoad(path, [path], () => all<FileServer>(path));
  return (
    <section>
      <div class="head">
        <h1>File servers</h1>
        <a class="button main" href={at.create("fileServer", g, w)}>
          New file server
        </a>
      </div>
      <Shown of={loading} lines={4}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty>
              <p>No file server. Clusters mount one over NFS, and all their jobs share what is on it.</p>
            </Empty>
          ) : (
            <Table
              label="File servers"
              rows={rows}
              id={(one) => one.id}
              columns={[
                {
                  name: "File server",
                  cell: (one) => (
                    <a class="row-link" href={at.fileServer(g, w, one.name)}>
                      {one.name}
                    </a>
                  ),
                },
                { name: "State", cell: (one) => <State is={one.properties.provisioningState} /> },
                { name: "Address", as: "wide", cell: (one) => one.properties.mountSettings?.fileServerInternalIP ?? "–" },
                { name: "Disks", cell: (one) => `${one.properties.dataDisks.diskCount} × ${one.properties.dataDisks.diskSizeInGB} GiB` },
                { name: "Size", as: "low", cell: (one) => one.properties.vmSize },
                { name: "Made", as: "low", cell: (one) => <Time at={one.properties.creationTime} /> },
              ]}
            />
          )
        }
      </Shown>
    </section>
  );
}

export function FileServerPage() {
  const { g = "", w = "", f = "" } = useRoute().params;
  useTitle(`${f} · ${w}`);
  const path = `${pathOf(g, w)}/fileServers/${encodeURIComponent(f)}`;
  const loading = useLoad(path, [path], () => ask<FileServer>(path));
  return (
    <section>
      <Shown of={loading} lines={8} title={f}>
        {({ body: server, etag }) => {
          const mount = server.properties.mountSettings;
          const line = mount && `sudo mount -t nfs ${mount.fileServerInternalIP}:${mount.mountPoint} /mnt/${server.name}`;
          return (
            <>
              <div class="head">
                <h1>{server.name}</h1>
                <State is={server.properties.provisioningState} />
                <div class="row end">
                  <button type="button" class="danger" onClick={() => askDelete(server.id, { losses: ["What is on its disks goes with it."], etag })}>
                    Delete …
                  </button>
                </div>
              </div>
              {line ? (
                <p>
                  <Copy text={line} what="the mount command">
                    <code>{line}</code>
                  </Copy>
                </p>
              ) : (
                <p class="sentence">It has no address to be mounted from{server.properties.provisioningState === "Failed" ? ": it could not be made." : " yet."}</p>
              )}
              <Facts
                of={[
                  ["Size", server.properties.vmSize],
                  ["Disks", `${server.properties.dataDisks.diskCount} × ${server.properties.dataDisks.diskSizeInGB} GiB`],
                  ["Storage", server.properties.dataDisks.storageAccountType],
                  ["Administrator", server.properties.sshConfiguration.userAccountSettings.adminUserName],
                  ["Made", <Time at={server.properties.creationTime} />],
                ]}
              />
              <Json of={server} />
              <footer class="actions">
                <Copy text={server.id} what="id" />
              </footer>
            </>
          );
        }}
      </Shown>
    </section>
  );
}
