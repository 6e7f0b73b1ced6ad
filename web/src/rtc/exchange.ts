// WHIP and WHEP (RFC 9725, draft-ietf-wish-whep) as a page speaks them: an offer goes out, the answer comes back, and the session
// ends when its address is deleted. Our server is ICE-lite: it needs none of our candidates, so nothing is waited for.

import { ask } from "../api";

/** How long a connection may take: a few round trips. */
const connectMs = 5000;

/** How long a peer waits for its session to be deleted. */
const goodbyeMs = 1000;

/** No connection came about, or it broke. */
export class Unreachable extends Error {
  /** `at`: where the server said that it can be reached over UDP, as "address:port". */
  constructor(readonly at: string[]) {
    super("no connection");
  }
}

/** What the server said of STUN and TURN at the last answer. */
let helpers: RTCIceServer[] = [];

/** Reads `Link: <turn:...>; rel="ice-server"; username="..."; credential="..."`, of which there may be several. */
function readHelpers(links: string): RTCIceServer[] {
  const found = links.matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+="[^"]*")*)/g);
  const servers = Array.from(found, ([, urls, rest]) => ({ urls: urls!, said: Object.fromEntries(Array.from(rest!.matchAll(/([\w-]+)="([^"]*)"/g), (one) => [one[1], one[2]])) }));
  return servers
    .filter(({ said }) => said["rel"] === "ice-server")
    .map(({ urls, said: { username, credential } }) => (username === undefined || credential === undefined ? { urls } : { urls, username, credential }));
}

/** A session of a peer that the server answered. */
export class Exchange {
  private over = false;

  private constructor(
    private readonly peer: RTCPeerConnection,
    private readonly location: string | null,
    private readonly headers: Record<string, string>,
    readonly answer: string,
  ) {}

  /**
   * Offers to `path` what `prepare` puts into a peer. Throws `Refused`, or the abort.
   *
   * The servers that help through networks (STUN, TURN) come with the answer (RFC 9725 section 4.6), when it is too late for the
   * peer that asked: whoever hears of them for the first time makes another, which knows them from the start.
   */
  static async make(prepare: (peer: RTCPeerConnection) => void, path: string, token: string, signal: AbortSignal, again = true): Promise<Exchange> {
    const headers = { authorization: `Bearer ${token}` };
    const peer = new RTCPeerConnection({ iceServers: helpers });
    try {
      prepare(peer);
      await peer.setLocalDescription();
      const body = peer.localDescription?.sdp ?? "";
      const answer = await ask(path, { method: "POST", headers: { ...headers, "content-type": "application/sdp" }, body, signal });
      const exchange = new Exchange(peer, answer.headers.get("location"), headers, await answer.text());
      const named = readHelpers(answer.headers.get("link") ?? "");
      const knew = JSON.stringify(named) === JSON.stringify(helpers);
      helpers = named;
      if (!knew && again) {
        exchange.end();
        return await Exchange.make(prepare, path, token, signal, false);
      }
      signal.addEventListener("abort", () => exchange.end(), { once: true });
      if (signal.aborted) exchange.end();
      signal.throwIfAborted();
      await peer.setRemoteDescription({ type: "answer", sdp: exchange.answer });
      return exchange;
    } catch (error) {
      peer.close();
      throw error;
    }
  }

  stats(): Promise<RTCStatsReport> {
    return this.peer.getStats();
  }

  /** Waits until the peer is connected. Throws `Unreachable`, or the abort. */
  async connected(signal: AbortSignal): Promise<void> {
    const { peer } = this;
    const over = new AbortController();
    try {
      await new Promise<void>((done, fail) => {
        const failed = (): void => fail(new Unreachable(this.reachableAt()));
        const look = (): void => {
          if (peer.connectionState === "connected") done();
          else if (peer.connectionState === "failed") failed();
        };
        const late = setTimeout(failed, connectMs);
        over.signal.addEventListener("abort", () => clearTimeout(late));
        peer.addEventListener("connectionstatechange", look, { signal: over.signal });
        signal.addEventListener("abort", () => fail(signal.reason as Error), { signal: over.signal });
        look();
      });
    } finally {
      over.abort();
    }
  }

  /** Calls `lost` once, when the connection breaks or the server ends it. */
  whenLost(lost: (error: Unreachable) => void): void {
    const { peer } = this;
    let told = false;
    const tell = (): void => {
      if (told) return;
      told = true;
      lost(new Unreachable(this.reachableAt()));
    };
    peer.addEventListener("connectionstatechange", () => peer.connectionState === "failed" && tell());
    // A peer that says goodbye closes its DTLS; the connection's own state need not say so.
    const [first] = peer.getTransceivers();
    const transport = first?.receiver.transport ?? first?.sender.transport;
    transport?.addEventListener("statechange", () => ["closed", "failed"].includes(transport.state) && tell());
  }

  /** Ends the session, also while the page is being left. */
  end(): void {
    if (this.over) return;
    this.over = true;
    const close = (): void => this.peer.close();
    if (this.location === null) return close();
    // A peer that says goodbye first has no session any more that could be deleted.
    const deleted = fetch(this.location, { method: "DELETE", headers: this.headers, keepalive: true });
    void deleted.catch(() => undefined).finally(close);
    setTimeout(close, goodbyeMs);
  }

  /** Whether the answer sends or takes this kind of media. */
  has(kind: "audio" | "video"): boolean {
    const sections = this.answer.split(/^(?=m=)/m).filter((section) => section.startsWith(`m=${kind} `));
    return sections.some((section) => !section.startsWith(`m=${kind} 0 `) && !/^a=inactive/m.test(section));
  }

  private reachableAt(): string[] {
    const found = this.answer.matchAll(/^a=candidate:\S+ \d+ udp \d+ (\S+) (\d+) /gim);
    return [...new Set(Array.from(found, ([, ip, port]) => (ip!.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`)))];
  }
}
