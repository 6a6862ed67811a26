// What the node did in the last ten minutes.

import { html, useMemo } from "../vendor/preact.js";
import { bytes, number } from "../format.js";
import { Trouble } from "../parts.js";
import { chartsOf } from "./metrics.js";
import { Plot } from "./plot.js";
import { EVERY_SECONDS } from "./history.js";

const rate = (value) => `${value >= 10 ? number(Math.round(value)) : Number(value.toFixed(1))}/s`;
const ms = (value) => `${value >= 10 ? Math.round(value) : Number(value.toFixed(2))} ms`;

const WHOLE = Array.from({ length: 40 }, (_, at) => [1, 2, 5][at % 3] * 10 ** Math.floor(at / 3));
const OF_BYTES = Array.from({ length: 50 }, (_, at) => 2 ** at);

const CHARTS = [
  { name: "requests", title: "Requests", shown: rate },
  { name: "times", title: "Time of requests", shown: ms, empty: "Nobody asked for anything yet." },
  { name: "lag", title: "Entries that replicas lack", shown: (value) => number(Math.round(value)), steps: WHOLE, empty: "This node has no replicas and follows nobody." },
  { name: "syncs", title: "Syncs of the log", shown: ms, empty: "The log was not synced yet: nothing was written." },
  { name: "bytes", title: "Log and store", shown: bytes, steps: OF_BYTES },
  { name: "evictions", title: "Keys evicted", shown: rate },
];

/** @param {{history: {samples: import("./metrics.js").Sample[], failure: any}}} props */
export function ChartsRoom({ history: { samples, failure } }) {
  const { times, charts } = useMemo(() => chartsOf(samples), [samples]);
  const waits = samples.length < 3 ? `The first values come within ${2 * EVERY_SECONDS} seconds.` : "";
  return html`
    <${Trouble} failure=${failure} />
    <p class="soft">Kept by this page since it was opened, for ten minutes. Of this node alone, the page's own requests included.</p>
    <div class="charts">
      ${CHARTS.map(({ name, title, shown, steps, empty }) => html`<${Plot} key=${name} title=${title} times=${times}
        series=${charts[name]} shown=${shown} steps=${steps} empty=${waits || empty || "Nothing yet."} />`)}
    </div>`;
}
