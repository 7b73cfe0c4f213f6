import type { Socket } from "../src/data/connection";
import type { ClientMessage, ServerMessage } from "../src/wire";

/** Both ends of a socket in one process: what the page sends, and a way to answer. */
export class Pair implements Socket {
  readyState = 0;
  onopen: ((event: Event) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  readonly sent: ClientMessage[] = [];

  send(text: string): void {
    this.sent.push(JSON.parse(text) as ClientMessage);
  }

  close(): void {
    this.drop();
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.({} as Event);
  }

  drop(): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({} as CloseEvent);
  }

  say(message: ServerMessage): void {
    this.onmessage?.({ data: JSON.stringify(message) } as MessageEvent);
  }

  subscriptions(): Extract<ClientMessage, { op: "subscribe" }>[] {
    return this.sent.filter((message) => message.op === "subscribe");
  }
}
