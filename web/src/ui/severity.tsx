import s from "./severity.module.css";

/** The only traffic light of the page, mildest first; always shown with its shape and word. */
export const SEVERITIES = ["info", "warning", "high", "critical"] as const;
export type Severity = (typeof SEVERITIES)[number];

const SHAPES: Record<Severity, string> = {
  info: "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9Z",
  warning: "M6 1.2 11.2 10.5H.8Z",
  high: "M6 .8 11.2 6 6 11.2.8 6Z",
  critical: "M3.7.8h4.6l2.9 2.9v4.6l-2.9 2.9H3.7L.8 8.3V3.7Z",
};

export function severityOf(value: string): Severity {
  const known = value.toLowerCase() as Severity;
  return SEVERITIES.includes(known) ? known : "info";
}

export function SeverityMark({ severity, size = 12 }: { severity: Severity; size?: number }) {
  return (
    <svg
      class={`${s.mark} ${s[severity]}`}
      width={size}
      height={size}
      viewBox="0 0 12 12"
      aria-hidden="true"
    >
      <path d={SHAPES[severity]} />
    </svg>
  );
}
