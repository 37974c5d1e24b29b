// What a job wrote, directory by directory; a folder is read when it is opened, and again when the job's state is another: that is
// recorded, so that it is not asked for more often.
import { useState } from "preact/hooks";
import { type Page, ask, fileLink, next } from "../api";
import { bytes } from "../format";
import { useLoad } from "../load";
import type { Job, OutputFile } from "../types";
import { Copy, Empty, Shown, Time } from "./basics";

/** Entries of a folder that are shown. */
const MOST = 3000;

async function list(job: Job, directory: string, folder: string): Promise<OutputFile[]> {
  const found: OutputFile[] = [];
  let page = (
    await ask<Page<OutputFile>>(`${job.id}/listOutputFiles`, { method: "POST", query: { outputdirectoryid: directory, directory: folder } })
  ).body;
  for (;;) {
    found.push(...page.value);
    const follow = next(page);
    if (!follow || found.length >= MOST) return found;
    page = (await ask<Page<OutputFile>>(follow)).body;
  }
}

export function Files({ job }: { job: Job }) {
  const directories = ["stdouterr", ...(job.properties.outputDirectories ?? []).map((one) => one.id)];
  return (
    <div class="tree">
      {directories.map((id) => (
        <section key={id} aria-label={`Output ${id}`}>
          <h2>
            {id} {id === "stdouterr" && <span class="quiet">standard output and the job's own logs</span>}
          </h2>
          <Folder job={job} directory={id} path="." />
        </section>
      ))}
    </div>
  );
}

function Folder({ job, directory, path }: { job: Job; directory: string; path: string }) {
  const loading = useLoad(`${job.id} ${directory} ${path}`, [], () => list(job, directory, path), job.properties.executionState);
  return (
    <Shown of={loading} lines={2}>
      {(entries) =>
        entries.length === 0 ? (
          path === "." ? (
            <Empty>
              <p>Nothing is in it{job.properties.executionState === "Succeeded" ? "." : " yet."}</p>
            </Empty>
          ) : (
            <p class="quiet">An empty folder.</p>
          )
        ) : (
          <ul class="files">
            {entries.map((entry) => (
              <li key={entry.name}>
                {entry.fileType === "directory" ? (
                  <Opened job={job} directory={directory} path={path === "." ? entry.name : `${path}/${entry.name}`} name={entry.name} />
                ) : (
                  <File entry={entry} />
                )}
              </li>
            ))}
          </ul>
        )
      }
    </Shown>
  );
}

function Opened({ job, directory, path, name }: { job: Job; directory: string; path: string; name: string }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{name}/</summary>
      {isOpen && <Folder job={job} directory={directory} path={path} />}
    </details>
  );
}

function File({ entry }: { entry: OutputFile }) {
  const link = fileLink(entry.downloadUrl ?? "");
  return (
    <div class="file">
      <a href={link.href} download={entry.name}>
        {entry.name}
      </a>
      <span class="n">{bytes(entry.properties?.contentLength ?? 0)}</span>
      <span class="n quiet">
        <Time at={entry.properties?.lastModified} />
      </span>
      <Copy text={new URL(link.href, location.origin).href} what={`link to ${entry.name}`}>
        Copy link
      </Copy>
    </div>
  );
}
