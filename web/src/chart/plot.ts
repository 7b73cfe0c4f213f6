import uPlot from "uplot";
import { clock, clockMinutes, number } from "../data/format";
import { color } from "../theme";
import { severityOf } from "../ui/severity";
import type { Threshold } from "../wire";
import { zoom } from "./axis";
import { isolated } from "./series";

export const PLACES = 8;
const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
const SHORT_AXIS_S = 240;
/** A threshold further away than this many data heights would flatten the lines. */
const NEAR = 1.5;

/** The vertical range: the data, the thresholds near it, and a little air. */
export function verticalRange(
  low: number | null,
  high: number | null,
  thresholds: readonly Threshold[],
  fromZero = false,
): [number, number] {
  let [min, max] = [low ?? 0, high ?? 1];
  const height = Math.max(max - min, Math.abs(max), 1e-9);
  for (const { value } of thresholds) {
    if (value > max && value - max <= NEAR * height) max = value;
    if (value < min && min - value <= NEAR * height) min = value;
  }
  // Counts and depths read best from zero, unless that hides the shape.
  if (min > 0 && (fromZero || min < 0.6 * max)) min = 0;
  const air = (max - min || Math.abs(max) || 1) * 0.08;
  return [min === 0 ? 0 : min - air, max + air];
}

function drawThresholds(plot: uPlot, thresholds: readonly Threshold[]): void {
  const { ctx, bbox } = plot;
  for (const threshold of thresholds) {
    const y = Math.round(plot.valToPos(threshold.value, "y", true));
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    ctx.save();
    ctx.strokeStyle = color(severityOf(threshold.severity));
    ctx.fillStyle = ctx.strokeStyle;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.font = FONT.replace("11px", `${11 * devicePixelRatio}px`);
    ctx.textAlign = "left";
    ctx.textBaseline = "bottom";
    ctx.fillText(threshold.label, bbox.left + 4 * devicePixelRatio, y - 2);
    ctx.restore();
  }
}

export interface PlotOptions {
  labels: readonly string[];
  thresholds: readonly Threshold[];
  fromZero: boolean;
  width: number;
  height: number;
  onCursor: (index: number | null) => void;
}

export function makePlot(target: HTMLElement, options: PlotOptions): uPlot {
  const line = (label: string, index: number): uPlot.Series => ({
    label,
    width: 1.5,
    spanGaps: false,
    stroke: () => color(`series-${index % PLACES}`),
    points: {
      size: 5,
      show: true,
      fill: () => color(`series-${index % PLACES}`),
      filter: (plot, seriesIndex) => isolated(plot.data[seriesIndex] ?? []),
    },
  });
  const axis = (extra: uPlot.Axis): uPlot.Axis => ({
    stroke: () => color("muted"),
    font: FONT,
    grid: { stroke: () => color("line"), width: 1 },
    ticks: { show: false },
    ...extra,
  });
  return new uPlot(
    {
      width: options.width,
      height: options.height,
      legend: { show: false },
      padding: [8, 10, 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1_000), "Etc/UTC"),
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        sync: { key: "page", setSeries: false },
        points: { size: 6 },
        // A double click goes back to now for all charts, not only for this one.
        bind: {
          dblclick: () => () => {
            zoom.value = null;
            return null;
          },
        },
      },
      scales: {
        x: { time: true, auto: false },
        y: {
          range: (_plot, low, high) =>
            verticalRange(low, high, options.thresholds, options.fromZero),
        },
      },
      axes: [
        axis({
          space: 64,
          size: 22,
          gap: 4,
          values: (plot, splits) => {
            const { min = 0, max = 0 } = plot.scales["x"] ?? {};
            const short = (max ?? 0) - (min ?? 0) <= SHORT_AXIS_S;
            return splits.map((split) => (short ? clock : clockMinutes)(split * 1_000));
          },
        }),
        axis({
          space: 26,
          gap: 4,
          size: (plot, values) => {
            const widest = (values ?? []).reduce((most, value) => Math.max(most, value.length), 1);
            return Math.max(30, 10 + widest * 7 + (plot.axes[1]?.gap ?? 0));
          },
          values: (_plot, splits) => {
            const step = Math.abs((splits[1] ?? 1) - (splits[0] ?? 0)) || 1;
            const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
            return splits.map((split) => number(split, step === 2.5 ? 1 : digits));
          },
        }),
      ],
      series: [{}, ...options.labels.map(line)],
      hooks: {
        draw: [(plot) => drawThresholds(plot, options.thresholds)],
        setCursor: [(plot) => options.onCursor(plot.cursor.idx ?? null)],
        setSelect: [
          (plot) => {
            const { left, width } = plot.select;
            if (width < 4) return;
            zoom.value = { min: plot.posToVal(left, "x"), max: plot.posToVal(left + width, "x") };
            plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          },
        ],
      },
    },
    [[], ...options.labels.map(() => [])] as unknown as uPlot.AlignedData,
    target,
  );
}
