import { render } from "preact";
import "./tokens.css";
import { Connection } from "./data/connection";
import { StoreProvider } from "./data/hooks";
import { Store } from "./data/store";
import { App } from "./shell/App";
import { Starting } from "./shell/Starting";
import { startTheme } from "./theme";
import type { AppInfo, Health } from "./wire";

const RETRY_MS = 2_000;

function socketUrl(): string {
  const url = new URL("ws", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

async function declared(): Promise<AppInfo> {
  const answer = await fetch(new URL("app", document.baseURI));
  if (!answer.ok) throw new Error(`the gateway answered ${answer.status} to GET /app`);
  return (await answer.json()) as AppInfo;
}

async function health(): Promise<Health> {
  const answer = await fetch(new URL("health", document.baseURI));
  return (await answer.json()) as Health;
}

function begin(page: HTMLElement): void {
  declared().then(
    (app) => {
      const store = new Store(app, new Connection(() => new WebSocket(socketUrl())), health);
      document.title = `${app.title} · headrace`;
      window.addEventListener("online", () => store.connection.retryNow());
      store.start();
      render(
        <StoreProvider value={store}>
          <App />
        </StoreProvider>,
        page,
      );
    },
    (error: unknown) => {
      render(<Starting problem={error instanceof Error ? error.message : String(error)} />, page);
      setTimeout(() => begin(page), RETRY_MS);
    },
  );
}

startTheme();
const page = document.getElementById("page");
if (page) begin(page);
