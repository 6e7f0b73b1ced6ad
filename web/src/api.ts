// The native API, as far as the console uses it. Times are RFC 3339 texts with microseconds.

import { token } from "./session";

export interface Track {
  id: number;
  codec: string;
  codec_string: string | null;
  width?: number;
  height?: number;
  frame_rate?: number;
  channels?: number;
}

export interface Publisher {
  protocol: string;
  peer: string;
  since: string;
  lost: number;
}

export interface Stream {
  name: string;
  state: "live" | "idle";
  bitrate: number;
  bytes: number;
  first_time: string | null;
  last_time: string | null;
  tracks: Track[];
  publisher: Publisher | null;
  notes: string[];
}

export interface Span {
  from: string;
  to: string;
}

export interface Gap extends Span {
  reason: string;
}

export interface Timeline {
  spans: Span[];
  gaps: Gap[];
  /** The answer stops here; ask again from this time. */
  continues_at?: string;
}

export interface Server {
  listeners: { rtsp: string | null };
}

/** What the server said when it refused, or `status` 0 when it did not answer. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(path, { headers: { authorization: `Bearer ${token() ?? ""}` }, signal: signal ?? null });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refused(0, "network", String(error));
  }
  if (!answer.ok) {
    const body = (await answer.json().catch(() => null)) as { error?: { code?: string; message?: string } } | null;
    throw new Refused(answer.status, body?.error?.code ?? "unknown", body?.error?.message ?? answer.statusText);
  }
  return (await answer.json()) as T;
}

/** More than these make no difference on a bar of a screen's width. */
const timelinePages = 20;

export const api = {
  streams: (search: string, cursor: string | undefined, signal: AbortSignal) => {
    const query = new URLSearchParams({ limit: "100" });
    if (search !== "") query.set("prefix", search);
    if (cursor !== undefined) query.set("cursor", cursor);
    return get<{ streams: Stream[]; cursor?: string }>(`/v1/streams?${query}`, signal);
  },
  stream: (name: string, signal: AbortSignal) => get<Stream>(`/v1/streams/${name}`, signal),
  server: (signal: AbortSignal) => get<Server>("/v1/server", signal),
  timeline: async (name: string, from: Date, to: Date, signal: AbortSignal) => {
    const query = new URLSearchParams({ from: from.toISOString(), to: to.toISOString() });
    query.set("resolution", `${Math.max(1, Math.round((to.getTime() - from.getTime()) / 1_000_000))}s`);
    const all: Timeline = { spans: [], gaps: [] };
    for (let pages = 0; pages < timelinePages; pages += 1) {
      const page = await get<Timeline>(`/v1/streams/${name}/timeline?${query}`, signal);
      all.spans.push(...page.spans);
      all.gaps.push(...page.gaps);
      if (page.continues_at === undefined) break;
      query.set("from", page.continues_at);
    }
    return all;
  },
  hlsAddress: (name: string, from?: Date) =>
    `/hls/${name}/index.m3u8${from === undefined ? "" : `?from=${from.toISOString()}`}`,
};
