import uPlot from "uplot";
import { clock, clockMinutes, number } from "../data/format";
import { color } from "../theme";
import { severityOf } from "../ui/severity";
import type { Threshold } from "../wire";
import { zoom } from "./axis";
import { bandStretches, isolated, type Line } from "./series";

export const PLACES = 8;
const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
const SHORT_AXIS_S = 240;
const BAND_ALPHA = 0.14;
const MARK_PX = 5;
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

/** The range of the data and of the bands around it. */
function withBands(
  low: number | null,
  high: number | null,
  lines: readonly (Line | undefined)[],
): [number | null, number | null] {
  let [least, most] = [low, high];
  for (const line of lines) {
    for (const bound of line?.low ?? [])
      if (bound !== null) least = Math.min(least ?? bound, bound);
    for (const bound of line?.high ?? []) if (bound !== null) most = Math.max(most ?? bound, bound);
  }
  return [least, most];
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

/** The area in which each line's values are expected. */
function drawBands(plot: uPlot, lines: readonly (Line | undefined)[]): void {
  const { ctx, bbox } = plot;
  const at = plot.data[0];
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  lines.forEach((line, place) => {
    if (!line?.low || !line.high) return;
    ctx.fillStyle = color(`series-${place % PLACES}`);
    ctx.globalAlpha = BAND_ALPHA;
    for (const [from, to] of bandStretches(line)) {
      ctx.beginPath();
      for (let index = from; index <= to; index += 1) {
        ctx.lineTo(
          plot.valToPos(at[index] ?? 0, "x", true),
          plot.valToPos(line.high[index] ?? 0, "y", true),
        );
      }
      for (let index = to; index >= from; index -= 1) {
        ctx.lineTo(
          plot.valToPos(at[index] ?? 0, "x", true),
          plot.valToPos(line.low[index] ?? 0, "y", true),
        );
      }
      ctx.fill();
    }
  });
  ctx.restore();
}

/** A diamond where a value is out of the ordinary: a shape, since colour alone says nothing. */
function drawMarks(plot: uPlot, lines: readonly (Line | undefined)[]): void {
  const { ctx } = plot;
  const size = MARK_PX * devicePixelRatio;
  const { min = 0, max = 0 } = plot.scales["x"] ?? {};
  ctx.save();
  ctx.strokeStyle = color("critical");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  for (const line of lines) {
    line?.marked?.forEach((marked, index) => {
      const value = line.values[index];
      const moment = plot.data[0][index] ?? 0;
      if (!marked || value == null || moment < (min ?? 0) || moment > (max ?? 0)) return;
      const [x, y] = [plot.valToPos(moment, "x", true), plot.valToPos(value, "y", true)];
      ctx.beginPath();
      ctx.moveTo(x - size, y);
      ctx.lineTo(x, y - size);
      ctx.lineTo(x + size, y);
      ctx.lineTo(x, y + size);
      ctx.closePath();
      ctx.stroke();
    });
  }
  ctx.restore();
}

export interface PlotOptions {
  labels: readonly string[];
  thresholds: readonly Threshold[];
  fromZero: boolean;
  width: number;
  height: number;
  onCursor: (index: number | null) => void;
  /** The lines as they are drawn, in the order of `labels`. */
  lines: () => readonly (Line | undefined)[];
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
          range: (_plot, low, high) => {
            const [least, most] = withBands(low, high, options.lines());
            return verticalRange(least, most, options.thresholds, options.fromZero);
          },
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
        drawAxes: [(plot) => drawBands(plot, options.lines())],
        draw: [
          (plot) => drawThresholds(plot, options.thresholds),
          (plot) => drawMarks(plot, options.lines()),
        ],
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
