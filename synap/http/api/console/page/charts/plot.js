// One chart, drawn by uPlot on a canvas, with its newest values as text beside its title.

import { html, useEffect, useRef } from "../vendor/preact.js";

const HEIGHT = 170;
const COLOURS = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6"];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * @param {{title: string, times: number[], series: import("./metrics.js").Series[],
 *   shown: (value: number) => string, steps?: number[], empty: string}} props `steps` are those that
 *   the scale may go by.
 */
export function Plot({ title, times, series, shown, steps, empty }) {
  const place = useRef(null);
  const chart = useRef(null);
  // Of one value no line can be drawn.
  const hasValues = times.length > 1 && series.some(({ values }) => values.some((value) => value !== null));
  const names = series.map(({ name }) => name).join("\n");
  useEffect(() => {
    if (!hasValues) return undefined;
    const made = new globalThis.uPlot(optionsOf(place.current.clientWidth, series, shown, steps), dataOf(times, series), place.current);
    chart.current = made;
    const sized = new ResizeObserver(() => made.setSize({ width: place.current.clientWidth, height: HEIGHT }));
    sized.observe(place.current);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => made.redraw();
    scheme.addEventListener("change", redraw);
    return () => {
      sized.disconnect();
      scheme.removeEventListener("change", redraw);
      made.destroy();
      chart.current = null;
    };
  }, [names, hasValues]);
  useEffect(() => {
    chart.current?.setData(dataOf(times, series));
  }, [times]);
  const newest = series.map(({ name, values }, at) => ({ name, at, value: values.at(-1) }));
  return html`<figure class="chart">
    <figcaption>
      <h2>${title}</h2>
      ${hasValues && newest.map(({ name, at, value }) => html`<span key=${name} class="now">
        <span class=${`mark mark-${(at % COLOURS.length) + 1}`} aria-hidden="true"></span>
        ${name} <strong>${value === null || value === undefined ? "–" : shown(value)}</strong></span>`)}
    </figcaption>
    ${hasValues
      ? html`<div class="plot" ref=${place} role="img" aria-label=${`${title}, the last ten minutes`}></div>`
      : html`<p class="empty">${empty}</p>`}
  </figure>`;
}

const dataOf = (times, series) => [times, ...series.map(({ values }) => values)];

function optionsOf(width, series, shown, steps) {
  const axis = { stroke: () => colour("--soft"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1.1] } },
    axes: [
      { ...axis, values: (_, times) => times.map((at) => new Date(at * 1000).toLocaleTimeString("en-GB")), space: 90, size: 30 },
      { ...axis, size: 76, ...(steps ? { incrs: steps } : {}), values: (_, values) => values.map((value) => shown(value)) },
    ],
    series: [{}, ...series.map(({ name }, at) => ({
      label: name, width: 2, stroke: () => colour(COLOURS[at % COLOURS.length]), points: { show: false }, spanGaps: false,
    }))],
  };
}
