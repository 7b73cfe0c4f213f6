/** What the gateway says: one type per message and per declared view. */

export type Scalar = string | number | boolean | null;
export type Value = Scalar | Value[] | { [name: string]: Value };
export type Row = Record<string, Value>;
/** A table's key: one column, or several in the declared order. */
export type Key = Scalar | Scalar[];

export interface Column {
  name: string;
  type: string;
}

export interface TopicInfo {
  columns: Column[];
  time: string | null;
  key: string | null;
  role?: "input" | "output" | "dead";
}

export interface TableInfo {
  columns: Column[];
  key: string | string[] | null;
}

export interface JsonSchema {
  type?: string | string[];
  title?: string;
  description?: string;
  format?: string;
  enum?: Scalar[];
  const?: Scalar;
  anyOf?: JsonSchema[];
  allOf?: JsonSchema[];
  $ref?: string;
  $defs?: Record<string, JsonSchema>;
  items?: JsonSchema;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  default?: Value;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
}

export interface ControlTableInfo {
  columns: Column[];
  key: string;
  json_schema: JsonSchema;
}

export type Place = "hero" | "side" | "below";

interface ViewBase {
  name: string;
  title: string;
  place?: Place | null;
}

export interface ZoneLayer {
  control_table: string;
  key: string;
  geometry: string;
  label: string;
  kind: string;
}

export interface VisitHistory {
  table: string;
  key: string;
  zone?: string | null;
  enter?: string | null;
  exit?: string | null;
  dwell?: string | null;
}

export interface MapView extends ViewBase {
  kind: "map";
  table: string;
  key: string;
  lon: string;
  lat: string;
  time: string;
  label: string | null;
  heading: string | null;
  color: string | null;
  /** Seconds of track to draw. */
  trail: number | null;
  depth: string | null;
  zones: ZoneLayer | null;
  /** How many are in each zone: a column, or else the table's rows counted per zone. */
  occupancy: { table: string; key: string; count?: string | null } | null;
  history: VisitHistory | null;
  events: string | null;
}

export interface Threshold {
  value: number;
  severity: string;
  label: string;
}

export interface ChartView extends ViewBase {
  kind: "chart";
  topic: string | null;
  table: string | null;
  x: string | null;
  y: string[];
  by: string | null;
  unit: string | null;
  /** Seconds of history shown. */
  span: number;
  thresholds: Threshold[];
  /** Columns of the bounds within which the first column of `y` is expected. */
  band: [string, string] | null;
  /** A column that is true where it is out of the ordinary. */
  mark: string | null;
  stat: "line" | "rate";
}

export interface TableView extends ViewBase {
  kind: "table";
  topic?: string | null;
  table?: string | null;
  columns: string[] | null;
  key?: string | string[] | null;
}

export type Aggregate = "count" | "rate" | "last" | "sum" | "size";

export interface CounterView extends ViewBase {
  kind: "counter";
  topic?: string | null;
  table?: string | null;
  aggregate: Aggregate;
  column: string | null;
  unit: string | null;
  where: string | null;
}

export interface EventsView extends ViewBase {
  kind: "events";
  topic: string;
  time: string;
  text: string;
  severity: string | null;
  columns: string[] | null;
  limit: number;
}

export interface RecordsView extends ViewBase {
  kind: "records";
  control_table: string;
  columns: string[] | null;
}

/** The alerts of an application, with what people can do about them. */
export interface AlertsView extends ViewBase {
  kind: "alerts";
  table: string;
  limit: number;
}

export interface VoxelsView extends ViewBase {
  kind: "voxels";
  table: string;
  x: string;
  y: string;
  z: string;
  value: string;
  unit: string | null;
  limit: number;
}

export type View =
  | MapView
  | ChartView
  | TableView
  | CounterView
  | EventsView
  | RecordsView
  | AlertsView
  | VoxelsView;

export interface AppInfo {
  app: string;
  title: string;
  version: string;
  views: View[];
  topics: Record<string, TopicInfo>;
  tables: Record<string, TableInfo>;
  control_tables: Record<string, ControlTableInfo>;
}

export interface TopicStats {
  rows_per_s?: number;
  rows?: number;
  late?: number;
  dropped?: number;
  dead?: number;
}

export interface Stats {
  clock: string | null;
  lag_ms: number | null;
  rows_per_s: number | null;
  p95_ms: number | null;
  late: number;
  dropped: number;
  dead: number;
  topics: Record<string, TopicStats>;
}

export type HealthStatus = "healthy" | "degraded" | "unhealthy";

export interface Health {
  status: HealthStatus;
  timestamp: string;
  checks: Record<string, { status: HealthStatus; detail: string }>;
}

export type SlowPolicy = "latest" | "drop_oldest" | "disconnect";

interface SubscribeOptions {
  where?: string;
  from?: number;
  snapshot?: boolean;
  limit?: number;
  policy?: SlowPolicy;
  every_ms?: number;
}

export type Target =
  | { topic: string }
  | { table: string }
  | { control_table: string }
  | { stats: true };

export type Subscription = Target & SubscribeOptions;

export type ClientMessage =
  | ({ op: "subscribe"; id: string } & Subscription)
  | { op: "unsubscribe"; id: string }
  | { op: "ping"; t: number };

export interface Subscribed {
  op: "subscribed";
  id: string;
  channel: string;
  seq: number;
  columns?: Column[];
  key?: string | string[] | null;
}

export type ChannelMessage =
  | { op: "snapshot"; channel: string; seq: number; rows: Row[] }
  | { op: "rows"; channel: string; seq: number; rows: Row[] }
  | { op: "changes"; channel: string; seq: number; upserts: Row[]; deletes: Key[] }
  | { op: "dropped"; channel: string; count: number }
  | { op: "lost"; channel: string; from: number; seq: number };

export interface WireError {
  op: "error";
  id: string | null;
  code: string;
  message: string;
  hint?: string | null;
}

export type ServerMessage =
  | Subscribed
  | ChannelMessage
  | WireError
  | ({ op: "stats" } & Stats)
  | { op: "pong"; t: number };
