// How old the picture on the screen is, from what a WebRTC receiver reports.
//
// Two parts make it up. How old the newest picture was when it came here: the server's sender reports say what the producer's
// clock showed when that picture was taken, and the browser notes when such a report came. And how long pictures stay in here
// until they are decoded. What the screen itself takes, a frame or two of its own, nobody can know.

/** Of the reports, so many of the newest count. The least is taken: a report may come a little after its picture, never before. */
const kept = 8;

/** The members of `getStats()` that are used; browsers lack one or the other. */
interface Inbound {
  type: string;
  kind?: string;
  remoteId?: string;
  framesDecoded?: number;
  totalDecodeTime?: number;
  totalProcessingDelay?: number;
  jitterBufferDelay?: number;
  jitterBufferEmittedCount?: number;
}

interface SenderReport {
  timestamp: number;
  remoteTimestamp?: number;
}

export class Age {
  private readonly arrivals: number[] = [];
  private reported: number | undefined;
  private stay: number | undefined;
  private before: Inbound | undefined;

  /** Takes what `getStats()` says now. */
  take(report: RTCStatsReport): void {
    const inbound: Inbound[] = [];
    report.forEach((one: Inbound) => one.type === "inbound-rtp" && inbound.push(one));
    const shown = inbound.find((one) => one.kind === "video") ?? inbound[0];
    if (shown === undefined) return;
    const sent = report.get(shown.remoteId ?? "") as SenderReport | undefined;
    if (sent?.remoteTimestamp !== undefined && sent.remoteTimestamp !== this.reported) {
      this.reported = sent.remoteTimestamp;
      this.arrivals.push(sent.timestamp - sent.remoteTimestamp);
      if (this.arrivals.length > kept) this.arrivals.shift();
    }
    this.stay = stay(this.before, shown) ?? this.stay;
    this.before = shown;
  }

  /** By this browser's clock, in ms; none before there is a report. */
  ms(): number | undefined {
    if (this.arrivals.length === 0 || this.stay === undefined) return undefined;
    return Math.min(...this.arrivals) + this.stay;
  }
}

/** How long pictures stayed here between two looks, in ms. */
function stay(before: Inbound | undefined, now: Inbound): number | undefined {
  const grown = (name: keyof Inbound): number => Number(now[name] ?? 0) - Number(before?.[name] ?? 0);
  const decoded = grown("framesDecoded");
  if (now.totalProcessingDelay !== undefined && decoded > 0) return (grown("totalProcessingDelay") / decoded) * 1000;
  const emitted = grown("jitterBufferEmittedCount");
  if (emitted <= 0) return undefined;
  const decoding = decoded > 0 ? grown("totalDecodeTime") / decoded : 0;
  return (grown("jitterBufferDelay") / emitted + decoding) * 1000;
}
