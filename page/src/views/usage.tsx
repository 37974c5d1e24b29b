// What is used of what may be used, by region; what is used stands first.
import { useLocation } from "preact-iso";
import { all, read, root } from "../api";
import { count } from "../format";
import { useLoad } from "../load";
import { Empty, Shown, useTitle } from "../parts/basics";

interface UsageRow {
  currentValue: number;
  limit: number;
  name: { value: string; localizedValue: string };
}

interface Region {
  name: string;
  displayName: string;
}

/** How the service writes that there is no limit. */
const NO_LIMIT = 2_147_483_647;

export function Usage() {
  useTitle("Usage");
  const { query, route } = useLocation();
  const [chosen, reload] = [query["region"], root()];
  const loading = useLoad(`usage ${chosen ?? ""}`, [reload], async () => {
    const regions = await all<Region>(`${root()}/locations`);
    const region = regions.find((one) => one.name === chosen) ?? regions[0];
    const rows = region
      ? (await read<{ value: UsageRow[] }>(`${root()}/providers/Microsoft.BatchAI/locations/${region.name}/usages`)).value
      : [];
    return { regions, region, rows };
  });
  return (
    <section>
      <div class="head">
        <h1>Usage</h1>
        <div class="row end">
          <label>
            <span class="hidden-text">Region</span>
            <select value={loading.state.value.data?.region?.name ?? ""} onChange={(event) => route(`/ui/usage?region=${event.currentTarget.value}`, true)}>
              {(loading.state.value.data?.regions ?? []).map((one) => (
                <option key={one.name} value={one.name}>
                  {one.displayName}
                </option>
              ))}
            </select>
          </label>
        </div>
      </div>
      <Shown of={loading} lines={10}>
        {({ rows }) => {
          const sorted = [...rows].sort((a, b) => Number(b.currentValue > 0) - Number(a.currentValue > 0));
          return rows.length === 0 ? (
            <Empty>
              <p>The service tells of no usage here.</p>
            </Empty>
          ) : (
            <div class="table-box" tabIndex={0} role="region" aria-label="Usage">
              <table aria-label="Usage against quota">
                <thead>
                  <tr>
                    <th scope="col" class="wide">
                      What
                    </th>
                    <th scope="col" class="n">
                      Used
                    </th>
                    <th scope="col" class="n">
                      Of
                    </th>
                    <th scope="col" class="meter-cell low">
                      Share
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {sorted.map((row) => (
                    <tr key={row.name.value} class={row.currentValue === 0 ? "unused" : ""}>
                      <th scope="row" class="wide">
                        {row.name.localizedValue}
                      </th>
                      <td class="n">{count(row.currentValue)}</td>
                      <td class="n">{row.limit === NO_LIMIT ? "no limit" : count(row.limit)}</td>
                      <td class="meter-cell low">
                        {row.limit !== NO_LIMIT && row.limit > 0 && (
                          <meter min={0} max={row.limit} high={row.limit * 0.85} value={row.currentValue} aria-label={`Share used of ${row.name.localizedValue}`} />
                        )}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          );
        }}
      </Shown>
    </section>
  );
}
