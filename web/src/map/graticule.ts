import { latitude, longitude } from "../data/format";
import { type Camera, fromScreen, metresPerPixel, screenX, screenY, toX, toY } from "./mercator";

const STEPS = [30, 15, 10, 5, 2, 1, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
const LINE_EVERY_PX = 100;

/** Degrees between lines so that they stand at least 100 px apart. */
export function graticuleStep(camera: Camera): number {
  const wanted = (LINE_EVERY_PX / camera.world) * 360;
  return STEPS.findLast((step) => step >= wanted) ?? 30;
}

function digits(step: number): number {
  return Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)) + (step === 0.25 ? 1 : 0);
}

export interface GraticuleColors {
  line: string;
  text: string;
  halo: string;
}

export function drawGraticule(
  context: CanvasRenderingContext2D,
  camera: Camera,
  colors: GraticuleColors,
): void {
  const { width, height } = camera;
  const step = graticuleStep(camera);
  const places = digits(step);
  const [west, north] = fromScreen(camera, 0, 0);
  const [, south] = fromScreen(camera, width, height);
  const across = (width / camera.world) * 360;
  context.strokeStyle = colors.line;
  context.lineWidth = 1;
  context.setLineDash([]);
  context.beginPath();
  const verticals: [number, number][] = [];
  for (let lon = Math.ceil(west / step) * step; lon <= west + across; lon += step) {
    const x = Math.round(screenX(camera, toX(lon))) + 0.5;
    verticals.push([lon, x]);
    context.moveTo(x, 0);
    context.lineTo(x, height);
  }
  const horizontals: [number, number][] = [];
  for (
    let lat = Math.ceil(Math.max(-85, south) / step) * step;
    lat <= Math.min(85, north);
    lat += step
  ) {
    const y = Math.round(screenY(camera, toY(lat))) + 0.5;
    horizontals.push([lat, y]);
    context.moveTo(0, y);
    context.lineTo(width, y);
  }
  context.stroke();
  context.lineWidth = 3;
  context.strokeStyle = colors.halo;
  context.fillStyle = colors.text;
  const write = (text: string, x: number, y: number) => {
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  };
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const [lon, x] of verticals)
    if (x > 60 && x < width - 40) write(longitude(lon, places), x, 4);
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const [lat, y] of horizontals) {
    if (y > 24 && y < height - 60) write(latitude(lat, places), width - 5, y);
  }
}

const NICE = [1, 2, 5];

/** A round length that fits into `most` pixels. */
export function scaleBar(camera: Camera, most: number): { metres: number; pixels: number } {
  const perPixel = metresPerPixel(camera);
  const longest = perPixel * most;
  const power = 10 ** Math.floor(Math.log10(longest));
  const metres =
    NICE.map((factor) => factor * power).findLast((value) => value <= longest) ?? power;
  return { metres, pixels: metres / perPixel };
}
