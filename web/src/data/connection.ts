import { signal } from "@preact/signals";
import type {
  ChannelMessage,
  ClientMessage,
  ServerMessage,
  Stats,
  Subscribed,
  Subscription,
  WireError,
} from "../wire";

export type LinkState = "connecting" | "live" | "lost";

/** What a subscription's data goes to. */
export interface Sink {
  /** The last sequence number seen, to resume after it; null asks for a snapshot. */
  resumeFrom(): number | null;
  subscribed(message: Subscribed): void;
  message(message: ChannelMessage): void;
  failed(error: WireError): void;
}

/** The part of a browser's WebSocket that is used. */
export interface Socket {
  readyState: number;
  onopen: ((event: Event) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  send(text: string): void;
  close(): void;
}

const OPEN = 1;
const PING_EVERY_MS = 10_000;
/** Without any frame for this long the link is taken as dead, whatever the browser says. */
const SILENCE_MS = 25_000;
const BACKOFF_MS = [250, 500, 1_000, 2_000, 4_000, 8_000];

interface Wanted {
  request: Subscription;
  sink: Sink;
  channel: string | null;
}

/**
 * The page's only WebSocket. Subscriptions outlive it: after a lost link every one is asked for
 * again from the last sequence number its sink has seen.
 */
export class Connection {
  readonly state = signal<LinkState>("connecting");
  /** Wall-clock ms since when nothing is heard; null while live. */
  readonly lostAt = signal<number | null>(null);
  /** Wall-clock ms of the last frame of any kind. */
  heardAt = 0;
  onStats: ((stats: Stats) => void) | null = null;
  /** Called after a re-established link, before the first resumed frame. */
  onResume: (() => void) | null = null;

  #socket: Socket | null = null;
  #wanted = new Map<string, Wanted>();
  #byChannel = new Map<string, Set<string>>();
  #nextId = 1;
  #attempt = 0;
  #wasLive = false;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #ping: ReturnType<typeof setInterval> | undefined;
  readonly #open: () => Socket;
  readonly #random: () => number;

  constructor(open: () => Socket, random: () => number = Math.random) {
    this.#open = open;
    this.#random = random;
  }

  start(): void {
    clearTimeout(this.#retry);
    const socket = this.#open();
    this.#socket = socket;
    socket.onopen = () => this.#opened();
    socket.onclose = () => this.#closed(socket);
    socket.onmessage = (event) => this.#received(JSON.parse(event.data as string) as ServerMessage);
  }

  /** Tries at once instead of waiting for the back-off, e.g. when the network is back. */
  retryNow(): void {
    if (this.state.value === "live" || this.#socket?.readyState === 0) return;
    this.#attempt = 0;
    this.start();
  }

  stop(): void {
    clearTimeout(this.#retry);
    clearInterval(this.#ping);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  subscribe(request: Subscription, sink: Sink): () => void {
    const id = `s${this.#nextId++}`;
    this.#wanted.set(id, { request, sink, channel: null });
    this.#ask(id);
    return () => {
      this.#forget(id);
      this.#wanted.delete(id);
      this.#send({ op: "unsubscribe", id });
    };
  }

  #opened(): void {
    this.#attempt = 0;
    this.heardAt = Date.now();
    this.state.value = "live";
    this.lostAt.value = null;
    this.#byChannel.clear();
    if (this.#wasLive) this.onResume?.();
    this.#wasLive = true;
    this.#send({ op: "subscribe", id: "stats", stats: true });
    for (const id of this.#wanted.keys()) this.#ask(id);
    this.#ping = setInterval(() => this.#beat(), PING_EVERY_MS);
  }

  #closed(socket: Socket): void {
    if (socket !== this.#socket) return;
    clearInterval(this.#ping);
    this.#socket = null;
    this.state.value = this.#wasLive ? "lost" : "connecting";
    this.lostAt.value ??= Date.now();
    const ceiling = BACKOFF_MS[Math.min(this.#attempt, BACKOFF_MS.length - 1)] ?? 8_000;
    this.#attempt += 1;
    // Spread, so that a restarted gateway is not met by every page at once.
    this.#retry = setTimeout(() => this.start(), ceiling * (0.5 + 0.5 * this.#random()));
  }

  #beat(): void {
    if (Date.now() - this.heardAt > SILENCE_MS) {
      const socket = this.#socket;
      socket?.close();
      if (socket) this.#closed(socket);
      return;
    }
    this.#send({ op: "ping", t: Date.now() });
  }

  #ask(id: string): void {
    const wanted = this.#wanted.get(id);
    if (!wanted || this.#socket?.readyState !== OPEN) return;
    const from = wanted.sink.resumeFrom();
    const resume = from === null ? {} : { from, snapshot: false };
    this.#send({ op: "subscribe", id, ...wanted.request, ...resume });
  }

  #forget(id: string): void {
    const channel = this.#wanted.get(id)?.channel;
    if (channel) this.#byChannel.get(channel)?.delete(id);
  }

  #received(message: ServerMessage): void {
    this.heardAt = Date.now();
    switch (message.op) {
      case "subscribed": {
        const wanted = this.#wanted.get(message.id);
        if (!wanted) return;
        wanted.channel = message.channel;
        const ids = this.#byChannel.get(message.channel) ?? new Set();
        ids.add(message.id);
        this.#byChannel.set(message.channel, ids);
        wanted.sink.subscribed(message);
        return;
      }
      case "stats":
        this.onStats?.(message);
        return;
      case "error":
        if (message.id !== null) this.#wanted.get(message.id)?.sink.failed(message);
        return;
      case "pong":
        return;
      default:
        for (const id of this.#byChannel.get(message.channel) ?? []) {
          this.#wanted.get(id)?.sink.message(message);
        }
    }
  }

  #send(message: ClientMessage): void {
    if (this.#socket?.readyState === OPEN) this.#socket.send(JSON.stringify(message));
  }
}
