// The last ten minutes, kept by the page whatever room is shown.

import { useEffect, useState } from "../vendor/preact.js";
import { failureOf, send } from "../client.js";
import { usePolled } from "../polling.js";
import { sampleOf } from "./metrics.js";

export const EVERY_SECONDS = 5;
const KEPT_SECONDS = 600;

/**
 * Keep samples of the node's metrics while the page can be seen.
 * @returns {{samples: import("./metrics.js").Sample[], failure: any}}
 */
export function useHistory() {
  const [samples, setSamples] = useState([]);
  const { value, failure } = usePolled(look, EVERY_SECONDS * 1000);
  useEffect(() => {
    if (!value) return;
    setSamples((old) => [...old.filter(({ at }) => at > value.at - KEPT_SECONDS), value]);
  }, [value]);
  return { samples, failure };
}

async function look() {
  const answer = await send("metrics");
  if (!answer.ok) throw await failureOf(answer);
  return sampleOf(await answer.text(), Date.now() / 1000);
}
