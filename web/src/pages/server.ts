// The server: health, disk, tokens and keys, recent events.

import { Refused, api } from "../api";
import { el } from "../dom";
import { words } from "../words";
import type { Page } from "./page";
import { poll } from "./poll";
import { AccessCard } from "./server/access";
import { DiskCard } from "./server/disk";
import { EventsCard } from "./server/events";
import { HealthCard } from "./server/health";

const refreshMs = 3000;

export function serverPage(page: Page): void {
  const { root, signal } = page;
  const problem = el("p", { class: "problem", role: "status" });
  const health = new HealthCard();
  const disk = new DiskCard();
  const events = new EventsCard();
  const access = new AccessCard(signal);
  const content = el(
    "div",
    { class: "columns server", hidden: true },
    health.element,
    disk.element,
    events.element,
    access.element,
  );
  const waiting = el("p", { class: "soft" }, words.loading);
  root.append(el("div", { class: "bar" }, el("h1", {}, words.server.title)), problem, waiting, content);
  void access.refresh();
  const refresh = async (): Promise<void> => {
    try {
      const [server, happened] = await Promise.all([api.server(signal), api.events(signal)]);
      health.draw(server);
      disk.draw(server);
      events.draw(happened.events);
      content.hidden = false;
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 403) throw error;
      waiting.textContent = words.server.forbidden;
      return;
    }
    waiting.hidden = true;
  };
  void poll(page, refreshMs, refresh, (text) => {
    problem.textContent = text;
    waiting.hidden = text !== "" || !content.hidden;
  });
}
