// Whether the server is well, in one word, and the figures behind it.

import type { Server } from "../../api";
import { el, renew } from "../../dom";
import { icon } from "../../icons";
import * as show from "../../show";
import { words } from "../../words";

/** More than these bytes waiting for the disk: it does not keep up. */
const behindBytes = 64 << 20;

export class HealthCard {
  private readonly verdict = el("p", { class: "verdict" });
  private readonly facts = el("dl", { class: "facts" });
  readonly element = el("section", { class: "card" }, el("h2", {}, words.server.health), this.verdict, this.facts);

  draw(server: Server): void {
    const { space, listeners } = server;
    const behind = server.unpersisted_bytes > behindBytes;
    const bad = space.state !== "ok" || behind;
    const text = space.state !== "ok" ? words.server[space.state] : behind ? words.server.behind : words.server.ok;
    this.verdict.classList.toggle("bad", bad);
    renew(this.verdict, text, () => [icon(bad ? "warn" : "check"), text]);
    const waits = server.unpersisted_fragments;
    const doors = Object.entries(listeners).map(([door, address]) => `${door} ${address}`);
    const facts: [string, string][] = [
      [words.server.uptime, show.duration(server.uptime_seconds * 1000)],
      [words.server.publishers, String(server.publishers)],
      [words.server.connections, String(server.connections)],
      [words.server.waiting, waits === 0 ? words.server.nothingWaits : words.server.waits(waits, show.bytes(server.unpersisted_bytes))],
      [words.server.version, server.version],
      [words.server.doors, doors.join("\n")],
      [words.server.folder, server.data_dir],
    ];
    if (server.certificate !== undefined) facts.push([words.server.certificate, server.certificate]);
    this.facts.replaceChildren(...facts.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));
  }
}
