// Where the media of a stream is: playlists, clips, pictures. Paths without a token; `withToken` makes them whole.

import { rfc } from "./api";

export interface Range {
  from: number;
  to: number;
}

export interface PictureOptions {
  /** Which picture: the one on screen at that instant (default), the first from then on, or the nearest key frame, which is cheaper. */
  pick?: "shown" | "next" | "key";
  width?: number;
}

function query(path: string, parameters: Record<string, string | number | undefined>): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  // A colon may stand in a query as it is (RFC 3986 section 3.4), and times are read more easily with it.
  return given.length === 0 ? path : `${path}?${text.replaceAll("%3A", ":")}`;
}

export const hlsPath = (name: string, from?: number, to?: number): string =>
  query(`/hls/${name}/index.m3u8`, { from: from && rfc(from), to: to && rfc(to) });

export const whepPath = (name: string): string => `/whep/${name}`;

export const whipPath = (name: string): string => `/whip/${name}`;

export const clipPath = (name: string, { from, to }: Range): string =>
  query(`/v1/streams/${name}/clip.mp4`, { from: rfc(from), to: rfc(to) });

export const picturePath = (name: string, at: number | "latest", options: PictureOptions = {}): string =>
  query(`/v1/streams/${name}/frames`, { at: at === "latest" ? at : rfc(at), format: "jpeg", ...options });

export const picturesPath = (name: string, { from, to }: Range, every: string): string =>
  query(`/v1/streams/${name}/frames`, { from: rfc(from), to: rfc(to), every, format: "jpeg" });

/** The whole address, for programs that cannot send a header. */
export function withToken(path: string, token: string): string {
  return new URL(`${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`, location.origin).href;
}
