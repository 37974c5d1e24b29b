// Who changed what, and what became of it: the activity log, by time and group.
import { useLocation } from "preact-iso";
import { type Page, ask, next, root } from "../api";
import { useLoad } from "../load";
import { Empty, Shown, State, Time, useTitle } from "../parts/basics";
import { Table } from "../parts/table";
import { named, show } from "../paths";

interface Entry {
  eventDataId: string;
  eventTimestamp: string;
  caller?: string;
  operationName: { value: string; localizedValue?: string };
  status: { value: string };
  subStatus?: { value: string };
  resourceId: string;
  properties?: { statusMessage?: string };
}

const SPANS: [string, string][] = [
  ["1", "last hour"],
  ["24", "last day"],
  ["168", "last week"],
];
const MOST = 2000;

async function load(hours: number, group: string): Promise<Entry[]> {
  const from = new Date(Date.now() - hours * 3_600_000).toISOString();
  const filter = `eventTimestamp ge '${from}'${group ? ` and resourceGroupName eq '${group}'` : ""}`;
  const found: Entry[] = [];
  let page = (await ask<Page<Entry>>(`${root()}/providers/Microsoft.Insights/eventtypes/management/values`, { query: { $filter: filter } })).body;
  for (;;) {
    found.push(...page.value);
    const follow = next(page);
    if (!follow || found.length >= MOST) break;
    page = (await ask<Page<Entry>>(follow)).body;
  }
  // Each request is told when it begins and when it ends: its end says all. Lists that are asked for by POST change nothing.
  return found.filter(
    (one) => !["Started", "Accepted"].includes(one.status.value) && !/(listoutputfiles|remotelogininformation)\/action$/i.test(one.operationName.value),
  );
}

export function Activity() {
  useTitle("Activity");
  const { query, route } = useLocation();
  const hours = SPANS.find(([id]) => id === query["hours"])?.[0] ?? "24";
  const group = query["group"] ?? "";
  const loading = useLoad(`activity ${hours} ${group}`, [root()], () => load(Number(hours), group));
  const choose = (name: string, value: string): void => {
    const search = new URLSearchParams(query);
    if (value) search.set(name, value);
    else search.delete(name);
    route(`/ui/activity?${search.toString()}`, true);
  };
  return (
    <section>
      <div class="head">
        <h1>Activity</h1>
        <div class="row end">
          <label>
            <span class="hidden-text">Time</span>
            <select value={hours} onChange={(event) => choose("hours", event.currentTarget.value)}>
              {SPANS.map(([id, name]) => (
                <option key={id} value={id}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <label>
            <span class="hidden-text">Resource group</span>
            <input type="search" placeholder="resource group" value={group} onChange={(event) => choose("group", event.currentTarget.value.trim())} spellcheck={false} />
          </label>
        </div>
      </div>
      <Shown of={loading} lines={12}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty>
              <p>Nothing was asked for in this time, or nothing that you may see.</p>
            </Empty>
          ) : (
            <Table
              label="Activity"
              rows={rows}
              id={(one) => one.eventDataId}
              columns={[
                { name: "Time", cell: (one) => <Time at={one.eventTimestamp} /> },
                { name: "What", cell: (one) => <span title={one.operationName.value}>{one.operationName.value.replace(/^Microsoft\.\w+\//, "")}</span> },
                {
                  name: "Resource",
                  as: "wide",
                  cell: (one) => {
                    const href = show(one.resourceId);
                    const what = named(one.resourceId);
                    const name = what?.name ?? one.resourceId;
                    return href ? <a href={href}>{name}</a> : name;
                  },
                },
                { name: "End", cell: (one) => <State is={one.status.value} /> },
                { name: "Detail", as: "low", cell: (one) => one.subStatus?.value ?? "" },
                { name: "Who", as: "low", cell: (one) => one.caller ?? "" },
              ]}
            />
          )
        }
      </Shown>
    </section>
  );
}
