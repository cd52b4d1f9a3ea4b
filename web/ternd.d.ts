/** Types of ternd.js, which says more about each of these. */

export {}; // nothing but what says so

export type RoomState = "idle" | "connecting" | "joined" | "waiting";
export type Kind = "audio" | "video";

export interface RoomOptions {
  /** The room's name: 1 to 64 letters, digits, `-`, `_`, `.`, `~`. */
  room: string;
  /** Your name, shown to the others. */
  name?: string;
  /** What you send. */
  stream?: MediaStream;
  /** The server: `https://host`, or its WebSocket `wss://host/v1/ws`. Default: where ternd.js came from. */
  url?: string;
  pin?: string;
  token?: string;
  /** How many members a room may have that this join makes. */
  capacity?: number;
  /** How many messages to all a room shall remember that this join makes. */
  history?: number;
  /** Only this way to the server. Default: WebSocket, and SSE where that gets nowhere. */
  transport?: "ws" | "sse";
  /** After a reload: the seat may look taken for a while. */
  returning?: boolean;
  /** Gives up before the room is joined. Without it, joining is tried for ever while the server is out of reach. */
  signal?: AbortSignal;
  /** May change the RTCConfiguration before it is used. */
  configure?(config: RTCConfiguration): RTCConfiguration;
}

export interface RoomEvents {
  state: RoomState;
  joined: { self: string; room: string };
  resumed: undefined;
  peer: Peer;
  left: Peer;
  presence: Peer;
  room: Room;
  value: { key: string; value: unknown; from: Peer | string };
  message: { from: Peer | string; data: unknown };
  draining: number;
  refused: RoomError;
  sent: Record<string, unknown>;
  received: Record<string, unknown>;
  retry: number;
}

export interface PeerEvents {
  stream: MediaStream;
  message: string;
  state: { machine: "signalingState" | "iceConnectionState" | "connectionState" | "channel"; state: string };
  failed: Peer;
  restart: number;
  rebuild: number;
  trouble: Error;
}

declare class Emitter<Events> extends EventTarget {
  /** Returns a function that takes the listener off again. */
  on<Type extends keyof Events>(type: Type, listener: (detail: Events[Type]) => void): () => void;
}

/** A refusal by the server. */
export class RoomError extends Error {
  /** One of the protocol's error codes, such as `room_full` or `bad_pin`. */
  code: string;
  retryMs: number | null;
  fatal: boolean;
}

export class Room extends Emitter<RoomEvents> {
  constructor(options: RoomOptions);
  readonly room: string;
  readonly state: RoomState;
  readonly self: string | null;
  readonly peers: Map<string, Peer>;
  readonly ice: RTCConfiguration & { ttl?: number };
  readonly iceRefused: string | null;
  readonly pin: boolean;
  readonly locked: boolean;
  readonly capacity: number | null;
  readonly moderators: string[];
  readonly isModerator: boolean;
  readonly values: Map<string, unknown>;
  readonly history: { from: string; name: string | null; data: unknown; ago_ms: number }[];
  readonly transport: "ws" | "sse";
  join(): Promise<void>;
  leave(): void;
  setTrack(kind: Kind, track: MediaStreamTrack | null): void;
  /** Over the data channels; returns to how many. */
  send(text: string): number;
  /** By way of the server. */
  post(data: unknown, to?: string | null): Promise<unknown>;
  set(key: string, value: unknown): Promise<unknown>;
  lock(locked?: boolean): Promise<unknown>;
  kick(peer: Peer | string, banSeconds?: number): Promise<unknown>;
  invite(options?: { ttl_s?: number; name?: string; role?: "member" | "moderator" }): Promise<string>;
}

export interface Path {
  /** For people: "relayed over TLS, 48 ms". */
  words: string;
  local: Record<string, any>;
  remote: Record<string, any>;
  /** How our relay is reached; "theirs": only the other side uses one; null: the path is direct. */
  relay: "udp" | "tcp" | "tls" | "theirs" | null;
  rttMs: number | null;
}

export interface Totals {
  at: number;
  bytesReceived: number;
  bytesSent: number;
  packetsReceived: number;
  packetsLost: number;
  rttMs: number | null;
}

export interface Rates {
  inKbps: number | null;
  outKbps: number | null;
  loss: number | null;
  rttMs: number | null;
}

export class Peer extends Emitter<PeerEvents> {
  readonly id: string;
  readonly name: string | null;
  readonly polite: boolean;
  readonly offerer: boolean;
  readonly away: boolean;
  readonly reason: string | null;
  readonly errors: { url: string; code: number; text: string }[];
  readonly failed: boolean;
  readonly relayed: boolean;
  readonly pc: RTCPeerConnection;
  readonly channel: RTCDataChannel;
  readonly stream: MediaStream;
  readonly connectedMs: number | null;
  send(text: string): boolean;
  path(): Promise<Path | null>;
  totals(): Promise<Totals>;
}

/** Enters a room: resolves when joined, rejects with a RoomError when refused. */
export function join(options: RoomOptions): Promise<Room>;
export function endpoints(url?: string, home?: string): { ws: string; events: string; send: string };
export function backoff(attempt: number, random?: number): number;
export function rates(before: Totals, after: Totals): Rates;
export function describePath(stats: RTCStatsReport): Path | null;
