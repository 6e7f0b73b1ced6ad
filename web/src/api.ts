// The native API, as far as the console uses it. Times in answers are RFC 3339 texts with microseconds; times that the
// console gives are milliseconds since the epoch.

import { learn } from "./clock";
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

export interface Settings {
  retention: { max_age: string | null; max_bytes: number | null };
  on_second_publisher: "same_credential" | "refuse" | "takeover";
  producer_clock: "auto" | "trust" | "arrival";
  tags: Record<string, string>;
}

export interface Stream extends Settings {
  name: string;
  created: string;
  state: "live" | "idle";
  bitrate: number;
  bytes: number;
  first_time: string | null;
  last_time: string | null;
  tracks: Track[];
  publisher: Publisher | null;
  viewers: number;
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
  version: string;
  started: string;
  uptime_seconds: number;
  data_dir: string;
  space: {
    free_bytes: number;
    total_bytes: number;
    state: "ok" | "low" | "full";
    low_bytes: number;
    write_rate: number;
    seconds_left?: number;
  };
  listeners: { http?: string; https?: string; rtsp?: string; rtsps?: string; webrtc?: string };
  publishers: number;
  connections: number;
  unpersisted_fragments: number;
  unpersisted_bytes: number;
  certificate?: string;
}

export interface Credential {
  id: string;
  kind: "token" | "publish_secret" | "access_key";
  label: string;
  streams: string;
  actions: string[];
  playback: boolean;
  from?: string;
  to?: string;
  created: string;
  expires: string | null;
  revoked: string | null;
  last_used: string | null;
}

export interface Happening {
  id: number;
  type: string;
  at: string;
  stream?: string;
  state?: string;
}

export interface Fragment {
  producer_time: string;
  /** In seconds. */
  duration: number;
}

export interface NewToken {
  label: string;
  streams: string;
  actions?: string[];
  playback?: boolean;
  from?: number;
  to?: number;
  expires_in?: string;
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

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";

/** Sends a request with the session's token. Throws `Refused`, or the abort. */
export async function send(method: string, path: string, signal?: AbortSignal, body?: unknown, accept?: string): Promise<Response> {
  const headers: Record<string, string> = { authorization: `Bearer ${token() ?? ""}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (accept !== undefined) headers["accept"] = accept;
  return ask(path, { method, headers, signal: signal ?? null, body: body === undefined ? null : JSON.stringify(body) });
}

/** Asks, and gives the answer when it is no refusal. Throws `Refused`, or the abort. */
export async function ask(path: string, request: RequestInit): Promise<Response> {
  let answer: Response;
  const asked = Date.now();
  try {
    answer = await fetch(path, request);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Refused(0, "network", String(error));
  }
  learn(asked, Date.now(), answer.headers.get("date"));
  if (!answer.ok) {
    const text = (await answer.json().catch(() => null)) as { error?: { code?: string; message?: string } } | null;
    throw new Refused(answer.status, text?.error?.code ?? "unknown", text?.error?.message ?? answer.statusText);
  }
  return answer;
}

const get = async <T>(path: string, signal?: AbortSignal): Promise<T> => (await (await send("GET", path, signal)).json()) as T;
const post = async <T>(path: string, body: unknown): Promise<T> => (await (await send("POST", path, undefined, body)).json()) as T;

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
  create: (name: string, settings: Settings) => post<Stream>("/v1/streams", { name, ...settings }),
  change: async (name: string, settings: Settings) =>
    (await (await send("PATCH", `/v1/streams/${name}`, undefined, settings)).json()) as Stream,
  remove: async (name: string) => void (await send("DELETE", `/v1/streams/${name}`)),

  server: (signal?: AbortSignal) => get<Server>("/v1/server", signal),
  events: (signal: AbortSignal) => get<{ events: Happening[] }>("/v1/events/recent", signal),

  tokens: (signal: AbortSignal) => get<{ tokens: Credential[] }>("/v1/tokens", signal),
  keys: (signal: AbortSignal) => get<{ keys: Credential[] }>("/v1/keys", signal),
  mintToken: ({ from, to, ...wanted }: NewToken) =>
    post<Credential & { token: string }>("/v1/tokens", {
      ...wanted,
      ...(from === undefined ? {} : { from: rfc(from) }),
      ...(to === undefined ? {} : { to: rfc(to) }),
    }),
  mintSecret: (label: string, streams: string, expires_in?: string) =>
    post<Credential & { secret: string }>("/v1/keys", {
      kind: "publish_secret",
      label,
      streams,
      ...(expires_in === undefined ? {} : { expires_in }),
    }),
  /**
   * The range of a token that can play all of `from` to `to`: a fragment is played whole or not at all, so the range reaches
   * to the borders of the fragments that its ends lie in.
   */
  wholeFragments: async (name: string, from: number, to: number) => {
    const at = async (start: number, end: number): Promise<Fragment | undefined> => {
      const query = new URLSearchParams({ from: rfc(start), to: rfc(end), limit: "1" });
      return (await get<{ fragments: Fragment[] }>(`/v1/streams/${name}/fragments?${query}`)).fragments[0];
    };
    const [first, last] = await Promise.all([at(from, from + 1), at(to - 1, to)]);
    const begin = first === undefined ? from : Math.min(from, Math.floor(Date.parse(first.producer_time)));
    const end = last === undefined ? to : Math.max(to, Date.parse(last.producer_time) + last.duration * 1000 + 1);
    return { from: begin, to: Math.ceil(end) };
  },
  revoke: async (credential: Credential) =>
    void (await send("DELETE", `/v1/${credential.kind === "token" ? "tokens" : "keys"}/${credential.id}`)),

  /** What was recorded from `from` to `to`; holes up to `resolution` are none. */
  timeline: async (name: string, from: number, to: number, resolutionMs: number, signal: AbortSignal) => {
    const query = new URLSearchParams({ from: rfc(from), to: rfc(to), resolution: `${Math.round(resolutionMs)}ms` });
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
};

export const rfc = (at: number): string => new Date(Math.round(at)).toISOString();
