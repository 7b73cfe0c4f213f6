import type { ComponentType } from "preact";
import { ChartPanel } from "../chart/Chart";
import type { View } from "../wire";
import { CounterPanel } from "./Counter";
import { EventsPanel } from "./Events";
import { lazy } from "./Lazy";
import { Placeholder } from "./Placeholder";
import { TablePanel } from "./Table";

export type Panel<V extends View = View> = ComponentType<{ view: V }>;

const PANELS: { [K in View["kind"]]?: Panel<Extract<View, { kind: K }>> } = {
  map: lazy(() => import("../map/MapPanel").then((module) => module.MapPanel)),
  chart: ChartPanel,
  table: TablePanel,
  counter: CounterPanel,
  events: EventsPanel,
  records: lazy(() => import("./Records").then((module) => module.RecordsPanel)),
  alerts: lazy(() => import("./Alerts").then((module) => module.AlertsPanel)),
  voxels: lazy(() => import("../voxels/VoxelsPanel").then((module) => module.VoxelsPanel)),
};

/** The component for a declared kind; one this page does not know yet shows what it is. */
export function viewFor(kind: string): Panel {
  return (PANELS[kind as View["kind"]] ?? Placeholder) as Panel;
}
