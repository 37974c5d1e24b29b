// Why something is not further: the gate, the number that is missing, who holds it, and what clears it. The server says it; here it is shown.
import type { ComponentChildren } from "preact";
import { read } from "../api";
import { plural } from "../format";
import { useLoad } from "../load";
import { named, show } from "../paths";
import type { Why } from "../types";
import { Facts, Failure, Time } from "./basics";

/**
 * What the job, cluster or node at a path waits for. Changes below `follows` are followed, and `version` is as in [`useLoad`]. Where nothing
 * is in the way it shows `free`.
 */
export function Waits({ of, follows, version, free }: { of: string; follows: string[]; version?: string; free?: ComponentChildren }) {
  const loading = useLoad(`${of}/why`, follows, () => read<Why>(`${of}/why`), version);
  const { data, error } = loading.state.value;
  return (
    <>
      {error && <Failure error={error} again={loading.again} />}
      {data?.gate ? <Gate of={data} /> : data && free}
    </>
  );
}

function Gate({ of: { gate = "", message, lack, heldBy, clears, clearsBy } }: { of: Why }) {
  const facts: [string, ComponentChildren][] = [];
  const noun = lack?.unit.toLowerCase().slice(0, -1) ?? "";
  if (lack?.unit === "Jobs") facts.push(["Ahead", plural(lack.missing, noun)]);
  else if (lack) facts.push(["Missing", plural(lack.missing, noun)], ["Needed", lack.needed], ["There are", lack.available]);
  if (heldBy.length > 0) {
    facts.push([
      "Held by",
      <ul>
        {heldBy.map((holder, index) => (
          <li key={index}>
            <Holder of={holder} />
            {lack && lack.unit !== "Jobs" && !holder.nodeId && `, ${plural(holder.count, noun)}`}
            {holder.until && (
              <>
                {" "}
                until <Time at={holder.until} /> at the latest
              </>
            )}
          </li>
        ))}
      </ul>,
    ]);
  }
  facts.push(["What clears it", clears]);
  if (clearsBy) facts.push(["At the latest", <Time at={clearsBy} />]);
  return (
    <div class="gate" role="group" aria-label="Why it waits">
      <p>
        <strong>{gate.replace(/(?<=.)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)}</strong> {message}
      </p>
      <Facts of={facts} />
    </div>
  );
}

function Holder({ of: { resourceId, nodeId } }: { of: Why["heldBy"][number] }) {
  if (!resourceId) return <>{nodeId ?? "one that you may not see"}</>;
  return <a href={show(resourceId) ?? undefined}>{named(resourceId)?.name ?? resourceId}</a>;
}
