/**
 * ternd.js: the client of ternd's rooms (protocol `ternd.v1`), a module for any page.
 *
 *     import * as ternd from "https://turn.example.org/ternd.js";
 *
 *     const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
 *     const call = await ternd.join({ room: "demo", stream });
 *     call.on("peer", (peer) => {
 *       peer.on("stream", (theirs) => { document.querySelector("video").srcObject = theirs; });
 *       peer.on("message", (text) => console.log(text));
 *     });
 *
 *       Room ──── WebSocket, or SSE and POST ──── ternd ──── WebSocket ──── Room
 *        └ Peer ═══════ media and one data channel, direct or relayed ═══════ Peer ┘
 *
 * In: a room's name and local tracks. Out: a `Peer` for each other member, with an RTCPeerConnection that
 * negotiates by itself ("perfect negotiation", W3C WebRTC section 10.7), restarts ICE with fresh credentials
 * when the path breaks, and comes back after the server or the network was away. Roles come from the server.
 */

const RESTART_AFTER_MS = 3000; // "disconnected" often heals by itself within this time
const FIRST_BACKOFF_MS = 500;
const LAST_BACKOFF_MS = 10000;
const REQUEST_TIMEOUT_MS = 15000;
const OPEN_WITHIN_MS = 8000;
const AT_ONCE_AFTER_MS = 10000;
const ANSWER_WITHIN_MS = 6000; // a connection that brings nothing for so long after a request is dead
const CONNECT_WITHIN_MS = 15000; // a browser without a candidate waits for ever, and never says "failed"
const GIVE_UP_AFTER_MS = 30000; // what is under way for so long a browser should have called "failed"
const BATCH_MS = 20; // candidates found within this time travel in one message
const MAX_ERRORS = 16; // of candidates, in one report
const MAX_REBUILDS = 5; // RTCPeerConnections tried for one peer
const MAX_REJOINS_WHEN_FULL = 25; // our own former self may hold the seat for a while
const MAX_UNANSWERED = 512; // messages kept until the server has answered, across lost connections

/** Close codes after which trying again is pointless: protocol, auth, version, replaced, kicked. */
const FINAL_CLOSE_CODES = new Set([4000, 4001, 4002, 4005, 4006]);
/** Ends a connection, and not its session. */
const CLOSE_AND_RESUME = 3000;

/** An EventTarget with shorter words: `on(type, listener)` gives the listener the detail itself. */
class Emitter extends EventTarget {
  /** Returns a function that takes the listener off again. */
  on(type, listener) {
    const wrapped = (event) => listener(event.detail);
    this.addEventListener(type, wrapped);
    return () => this.removeEventListener(type, wrapped);
  }

  _emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** A refusal by the server: `code` is one of the protocol's error codes, `message` is for people. */
export class RoomError extends Error {
  name = "RoomError";

  constructor({ code, message, retry_ms: retryMs = null, fatal = false }) {
    super(message);
    this.code = code;
    /** After how many milliseconds to try again, or null: it makes no difference. */
    this.retryMs = retryMs;
    this.fatal = fatal;
  }
}

/**
 * Enters a room: resolves to the {@link Room} when joined, rejects with a {@link RoomError} when refused. Options as
 * of the Room. Peers who are there already are told to whoever listens for `peer`, now or later.
 */
export async function join(options) {
  const room = new Room(options);
  await room.join();
  return room;
}

// ---- pure parts, for the tests too

/**
 * Where a server's endpoints are: { ws, events, send }. `url` is its address (https://host), its WebSocket
 * (wss://host/v1/ws), or absent: the server this file came from.
 */
export function endpoints(url, home = import.meta.url) {
  if (!url && !/^https?:/.test(home)) throw new TypeError("join() needs `url`, the server's address: this file came from none");
  const base = new URL(url ?? "/", home);
  base.protocol = base.protocol.replace(/^ws/, "http");
  base.pathname = base.pathname.replace(/\/v1\/ws\/?$/, "/");
  base.search = base.hash = "";
  const at = (path) => new URL(path, base).href;
  return { ws: at("v1/ws").replace(/^http/, "ws"), events: at("v1/events"), send: at("v1/send") };
}

/** The pause before the next attempt: grows, with an end, and spread: a whole room comes back after a restart. */
export function backoff(attempt, random = Math.random()) {
  const longest = Math.min(LAST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(attempt, 10));
  return longest * (0.5 + random / 2);
}

/**
 * What two samples of `Peer.totals()` say of the time between: { inKbps, outKbps, loss, rttMs }, where loss is a
 * share from 0 to 1 of the packets that should have come; null where nothing can be said.
 */
export function rates(before, after) {
  const seconds = (after.at - before.at) / 1000;
  if (!(seconds > 0)) return { inKbps: null, outKbps: null, loss: null, rttMs: after.rttMs };
  // A rebuilt connection counts from 0 again.
  const grown = (key) => (after[key] >= before[key] ? after[key] - before[key] : after[key]);
  const lost = Math.max(0, after.packetsLost - before.packetsLost);
  const due = grown("packetsReceived") + lost;
  return {
    inKbps: (grown("bytesReceived") * 8) / 1000 / seconds,
    outKbps: (grown("bytesSent") * 8) / 1000 / seconds,
    loss: due > 0 ? lost / due : null,
    rttMs: after.rttMs,
  };
}

// ---- transports: send(text), close(code); they call opened(), received(text), closed(code, reason)

class Socket {
  #socket;

  constructor({ ws }, to) {
    this.#socket = new WebSocket(ws, "ternd.v1");
    this.#socket.onopen = () => to.opened();
    this.#socket.onmessage = ({ data }) => to.received(data);
    this.#socket.onclose = ({ code, reason }) => to.closed(code, reason);
  }

  get open() { return this.#socket.readyState === 1; }

  alive() {}

  send(text) { this.#socket.send(text); }

  close(code) {
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(code);
  }
}

const POST_BYTES = 60_000;
/** A browser sends a little less than 64 KiB after its page is gone. */
const KEPT_ALIVE_BYTES = 64_000;
const bytesOf = (text) => new TextEncoder().encode(text).length;

/** The same messages where no WebSocket gets through: events down, one POST at a time up. */
class Events {
  open = false;
  #source;
  #url;
  #to;
  #connection = null;
  #waiting = [];
  #busy = false;
  #signs = null;

  constructor({ events, send }, to) {
    this.#url = send;
    this.#to = to;
    this.#source = new EventSource(events);
    this.#source.addEventListener("open", ({ data }) => {
      if (!data) return; // the browser's own event of this name
      this.#connection = JSON.parse(data).connection;
      this.open = true;
      to.opened();
    });
    this.#source.onmessage = ({ data }) => to.received(data);
    this.#source.addEventListener("close", ({ data }) => {
      const { code, reason } = JSON.parse(data);
      this.#end(code, reason);
    });
    this.#source.onerror = () => this.#end(1006, "");
  }

  /** The server wants a sign of life this often. */
  alive(ms) {
    clearInterval(this.#signs);
    this.#signs = setInterval(() => this.#flush(true), ms);
  }

  send(text) {
    this.#waiting.push(text);
    queueMicrotask(() => this.#flush());
  }

  close(code) {
    const last = code === 1000 ? this.#waiting.splice(0) : [];
    this.#to = null;
    this.open = false;
    // The server takes what is posted as long as events go down.
    const sent = last.length > 0 ? this.#post(last).catch(() => {}) : Promise.resolve();
    sent.finally(() => this.#end(code, ""));
  }

  async #flush(sign = false) {
    if (this.#busy || !this.open || (this.#waiting.length === 0 && !sign)) return;
    this.#busy = true;
    try {
      const messages = this.#batch();
      const reply = await this.#post(messages);
      if (reply.status === 413 && messages.length === 1) this.#tooLarge(messages[0]);
      else if (!reply.ok) throw new Error(`status ${reply.status}`);
    } catch {
      this.#end(1006, "");
    }
    this.#busy = false;
    if (this.#waiting.length) this.#flush();
  }

  /** The rooms have not seen it, and never will. */
  #tooLarge(text) {
    const { id } = JSON.parse(text);
    this.#to?.received(JSON.stringify({ type: "error", id, code: "too_large", message: "The message is too large" }));
  }

  /** What goes with one POST: at least one message, and otherwise no more than the server takes at a time. */
  #batch() {
    let bytes = 0;
    const end = this.#waiting.findIndex((text, at) => (bytes += bytesOf(text)) > POST_BYTES && at > 0);
    return this.#waiting.splice(0, end < 0 ? 64 : Math.min(end, 64));
  }

  #post(messages) {
    const body = `{"connection":${JSON.stringify(this.#connection)},"messages":[${messages.join(",")}]}`;
    return fetch(this.#url, { method: "POST", body, keepalive: bytesOf(body) < KEPT_ALIVE_BYTES });
  }

  #end(code, reason) {
    clearInterval(this.#signs);
    this.#source.close();
    this.open = false;
    const to = this.#to;
    this.#to = null;
    to?.closed(code, reason);
  }
}

/**
 * A seat in a room.
 *
 * Options: `room` (its name); `name` (yours, shown to others); `stream` (a MediaStream to send); `url` (the server;
 * default: the one this file came from); `pin`, `token`, `capacity`, `history` (see the protocol); `signal` (an AbortSignal
 * that gives up before the room is joined: without one it is tried for ever while the server is out of reach);
 * `transport` ("ws" or "sse": only this one); `configure(config)`, which may change the RTCConfiguration before it is
 * used; `returning` (true after a reload: the seat may look taken for a while).
 *
 * Events: `state` ("idle" | "connecting" | "joined" | "waiting"), `joined`, `resumed` (the connection was lost and is
 * back, nothing is missing), `peer` (a Peer came), `left` (a Peer went), `presence` (a Peer lost its connection to
 * the server, or has it back), `room` (locked or unlocked, or other moderators), `value` ({ key, value, from }: the
 * room's shared values), `message` ({ from, data }, by way of the server), `draining`, `refused` (a RoomError, and
 * the room is idle again), `sent` and `received` (every protocol message, for logs), `retry` (milliseconds until the
 * next attempt).
 */
export class Room extends Emitter {
  /** @type {"idle" | "connecting" | "joined" | "waiting"} */
  state = "idle";
  /** Our id in the room, while joined. */
  self = null;
  /** The other members, by id. */
  peers = new Map();
  /** What the server said last about ICE servers. */
  ice = { iceServers: [] };
  /** Why the server gave none when it was asked, or null. */
  iceRefused = null;
  /** Has the room a PIN, is it locked; how many may come in. */
  pin = false;
  locked = false;
  capacity = null;
  /** Ids of the moderators. */
  moderators = [];
  /** What the room remembers: values by key, and the last messages to all. */
  values = new Map();
  history = [];
  /** How the server is reached. @type {"ws" | "sse"} */
  transport = "ws";

  #options;
  #urls;
  #tracks = new Map(); // kind -> track or null
  #link = null;
  #welcome = null; // what the session is resumed with
  #seq = 0; // of the last event
  #unanswered = new Map(); // id -> { message, resolve, reject, timer }, in the order they were sent
  #lastId = 0;
  #attempt = 0;
  #greeted = false; // has this link brought a welcome?
  #wasMember = false;
  #lostAt = null; // when the last connection that worked ended
  #fullTries = 0;
  #fatal = null; // what the server said before it closed
  #silence = null; // runs while a request waits for a sign of life
  #heard = 0; // messages on this connection
  #pulse = null;
  #timer = null;
  #iceTimer = null;
  #first = null; // { resolve, reject } of join()
  #network = () => this.#networkChanged();
  /** "wifi", "cellular"; unknown to most browsers. Chromium tells of each new guess at the speed, too: no new network. */
  #networkType = globalThis.navigator?.connection?.type;
  #networkTold = () => {
    const { type } = globalThis.navigator.connection;
    if (type === this.#networkType) return;
    this.#networkType = type;
    this.#networkChanged();
  };
  // A browser closes a WebSocket with a word; of an EventSource the server would only see that it is lost, and wait.
  #gone = () => { if (this.transport === "sse") this.leave(); };
  #woken = () => { if (this.state === "joined" && !document.hidden) this.#probe(); };

  constructor(options) {
    super();
    this.#options = { configure: (config) => config, ...options };
    this.#urls = endpoints(options.url);
    if (options.transport) this.transport = options.transport;
    for (const track of options.stream?.getTracks() ?? []) this.setTrack(track.kind, track);
  }

  get room() { return this.#options.room; }

  get isModerator() { return this.moderators.includes(this.self); }

  /** As `on` of any event; a listener for `peer` hears of those who are there already, too. */
  on(type, listener) {
    const off = super.on(type, listener);
    if (type === "peer") for (const peer of this.peers.values()) listener(peer);
    return off;
  }

  /** Enters the room and stays in it. Resolves when joined, rejects with a RoomError when refused. */
  join() {
    if (this.state !== "idle") return Promise.resolve();
    const { signal, returning } = this.#options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      this.#first = { resolve, reject };
      this.#attempt = this.#fullTries = 0;
      this.#wasMember = returning === true;
      signal?.addEventListener("abort", () => { if (this.#first) this.#leave(signal.reason); }, { once: true });
      globalThis.addEventListener?.("online", this.#network);
      globalThis.navigator?.connection?.addEventListener?.("change", this.#networkTold);
      globalThis.document?.addEventListener("visibilitychange", this.#woken);
      globalThis.addEventListener?.("pagehide", this.#gone);
      this.#connect();
    });
  }

  /** Leaves the room; the others learn it at once. */
  leave() { this.#leave(new Error("left before it was joined")); }

  #leave(reason) {
    this.#write({ type: "bye" });
    this.#stop();
    this.#first?.reject(reason);
    this.#first = null;
  }

  /** Sends `track` to everyone from now on as its kind ("audio" or "video"), or nothing of that kind if null. */
  setTrack(kind, track) {
    this.#tracks.set(kind, track);
    for (const peer of this.peers.values()) peer._setTrack(kind, track);
  }

  /** Sends text to every peer over the data channels. Returns how many it was handed to. */
  send(text) {
    return [...this.peers.values()].filter((peer) => peer.send(text)).length;
  }

  /** Sends data to one member, or to all if `to` is null, by way of the server. Resolves when the server has it. */
  post(data, to = null) { return this.#request({ type: "message", to, data }); }

  /** Writes one of the room's shared values; null removes it. */
  set(key, value) { return this.#request({ type: "set", key, value }); }

  /** For moderators: locks or unlocks the room, puts a member out, makes an invite token. */
  lock(locked = true) { return this.#request({ type: "lock", locked }); }

  kick(peer, banSeconds = 0) { return this.#request({ type: "kick", peer: peer.id ?? peer, ban_s: banSeconds }); }

  async invite(options = {}) { return (await this.#request({ type: "invite", ...options })).token; }

  /** Cuts the connection to the server, as a bad network does. For tests. */
  _cut() { this.#dead(); }

  // ---- the connection: hello, then resume or join; again with growing pauses

  #connect() {
    this.#drop();
    this.#setState(this.#resumable ? this.state : "connecting");
    this.#greeted = false;
    this.#fatal = null;
    let link = null;
    const mine = (act) => (...args) => { if (link !== null && link === this.#link) act(...args); };
    const to = {
      opened: mine(() => this.#enter(link)),
      received: mine((text) => this.#received(JSON.parse(text))),
      closed: mine((code, reason) => this.#closed(code, reason)),
    };
    link = this.transport === "sse" ? new Events(this.#urls, to) : new Socket(this.#urls, to);
    this.#link = link;
    this.#timer = setTimeout(() => this.#dead(), OPEN_WITHIN_MS); // a SYN into the void
  }

  get #resumable() { return this.#welcome?.resume_ms > 0 && this.self !== null; }

  async #enter(link) {
    const { room, name, pin, token, capacity, history } = this.#options;
    const { session, secret } = this.#welcome ?? {};
    const resume = this.#resumable ? { session, secret, seq: this.#seq } : undefined;
    try {
      const hello = { type: "hello", client: "ternd.js/2", token, resume };
      const welcome = await this.#request(hello, true);
      if (link !== this.#link) return;
      clearTimeout(this.#timer);
      this.#greeted = true;
      this.#welcome = welcome;
      if (welcome.ping_ms > 0) {
        link.alive(welcome.ping_ms);
        this.#takePulse(welcome.ping_ms);
      }
      if (welcome.resumed) {
        this.#resumed(welcome);
        return;
      }
      // What waited was meant for a session that is over.
      this.#forget(() => true);
      this.#seq = 0;
      const joined = await this.#request({ type: "join", room, create: "if-missing", name, pin, capacity, history });
      if (link === this.#link) this.#joined(joined);
    } catch (error) {
      if (link === this.#link) this.#refused(error);
    }
  }

  #resumed({ last_id: lastId }) {
    // What the server has, it has; of what it has not, the first is sent first.
    this.#forget((id) => lastId !== null && lastId !== undefined && id <= lastId);
    for (const { message } of this.#unanswered.values()) this.#write(message);
    this.#attempt = 0;
    this.#setState("joined");
    this._emit("resumed", undefined);
  }

  #forget(which) {
    for (const [id, { message, reject, timer }] of [...this.#unanswered]) {
      if (message.type === "hello" || !which(id)) continue;
      this.#unanswered.delete(id);
      clearTimeout(timer);
      reject(new Error(`the answer to '${message.type}' was lost with the connection`));
    }
  }

  #joined({ self, peers, ice, capacity = null, pin = false, locked = false, moderators = [], state = {}, history = [] }) {
    // Members of before carry old ids: their connections are over, also where packets still flow.
    for (const peer of [...this.peers.values()]) this.#remove(peer.id);
    Object.assign(this, { self, capacity, pin, locked, moderators, history });
    this.values = new Map(Object.entries(state));
    this.#setIce(ice);
    if (!ice) this.#refreshIce().catch(() => {}); // the refusal says why
    this.#attempt = this.#fullTries = 0;
    this.#wasMember = true;
    this.#setState("joined");
    this._emit("joined", { self, room: this.room });
    this._emit("room", this);
    for (const peer of peers) this.#add(peer);
    this.#first?.resolve();
    this.#first = null;
  }

  #refused(error) {
    const seatTaken = error.code === "room_full" && this.#wasMember && this.#fullTries++ < MAX_REJOINS_WHEN_FULL;
    const passing = error.code === "rate_limited" || error.code === "draining" || error.code === "internal";
    if (!(error instanceof RoomError) || passing || seatTaken) {
      this.#again(error.retryMs ?? 2000);
      return;
    }
    this.#write({ type: "bye" });
    this.#stop();
    this.#first?.reject(error);
    this.#first = null;
    this._emit("refused", error);
  }

  #closed(code, reason) {
    if (FINAL_CLOSE_CODES.has(code)) {
      const message = reason || `The server closed with code ${code}`;
      const known = { 4005: "session_replaced", 4006: "kicked" }[code] ?? `closed_${code}`;
      this.#refused(this.#fatal ?? new RoomError({ code: known, message }));
      return;
    }
    // No WebSocket gets through: try the other way, and back again if that is no better.
    if (!this.#greeted && !this.#options.transport && this.#attempt > 0 && code === 1006) {
      this.transport = this.transport === "ws" ? "sse" : "ws";
    }
    // After a cut the first attempt comes at once, unless that is what happens all the time.
    const now = performance.now();
    const seldom = this.#lostAt === null || now - this.#lostAt > AT_ONCE_AFTER_MS;
    const pause = this.#greeted && this.#resumable && seldom ? 0 : backoff(this.#attempt);
    if (this.#greeted) this.#lostAt = now;
    this.#attempt++;
    this.#again(pause);
  }

  #again(ms) {
    this.#drop();
    this.#setState("waiting");
    this._emit("retry", Math.round(ms));
    this.#timer = setTimeout(() => this.#connect(), ms);
  }

  #drop(code = CLOSE_AND_RESUME) {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    clearInterval(this.#pulse);
    this.#silence = null;
    const link = this.#link;
    this.#link = null;
    link?.close(code);
    for (const [id, { message, reject, timer }] of [...this.#unanswered]) {
      clearTimeout(timer);
      if (this.#resumable && code !== 1000 && message.type !== "hello" && message.type !== "join") continue;
      this.#unanswered.delete(id);
      reject(new Error("the connection to the server was lost"));
    }
  }

  #stop() {
    globalThis.removeEventListener?.("online", this.#network);
    globalThis.navigator?.connection?.removeEventListener?.("change", this.#networkTold);
    globalThis.document?.removeEventListener("visibilitychange", this.#woken);
    globalThis.removeEventListener?.("pagehide", this.#gone);
    clearTimeout(this.#iceTimer);
    this.#drop(1000);
    for (const peer of [...this.peers.values()]) this.#remove(peer.id);
    this.self = this.#welcome = null;
    this.#setState("idle");
  }

  /** The ways out have changed: the pause need not end first, and paths that look well may be dead. */
  #networkChanged() {
    if (globalThis.navigator?.onLine === false) return; // there is no way out: nothing to be tried
    if (this.state === "waiting") {
      this.#connect();
    } else if (this.state === "joined") {
      this.#probe();
      for (const peer of this.peers.values()) peer._networkChanged();
    }
  }

  /**
   * A browser hears nothing of a dead connection for minutes. So whatever asks must be answered soon, by anything, and
   * where all is quiet something is asked. What can't be resumed is not given up.
   */
  #takePulse(ms) {
    let before = this.#heard;
    this.#pulse = setInterval(() => {
      if (this.#heard === before) this.#probe();
      before = this.#heard;
    }, ms);
  }

  #probe() {
    if (this.#resumable) this.#request({ type: "ready" }).catch(() => {});
  }

  #dead() {
    this.#link?.close(CLOSE_AND_RESUME);
    this.#closed(1006, "");
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this._emit("state", state);
  }

  // ---- messages

  /** `false`: there is no connection. */
  #write(message) {
    if (!this.#link?.open) return false;
    this.#link.send(JSON.stringify(message));
    if (message.id !== undefined && this.#greeted && this.#resumable) this.#silence ??= setTimeout(() => this.#dead(), ANSWER_WITHIN_MS);
    this._emit("sent", message);
    return true;
  }

  /** Sends a message, and keeps it until the server has answered: if the connection is lost, it goes out again. */
  #request(message, urgent = false) {
    const id = ++this.#lastId;
    message = { ...message, id };
    return new Promise((resolve, reject) => {
      const later = this.#resumable && !urgent && this.#unanswered.size < MAX_UNANSWERED;
      // Before the session is back nothing may go out but what brings it back.
      const ready = urgent || message.type === "join" || this.#greeted;
      if (!(ready && this.#write(message)) && !later) {
        reject(new Error("not connected to the server"));
        return;
      }
      const timer = later ? null : setTimeout(() => {
        this.#unanswered.delete(id);
        reject(new Error(`no answer to '${message.type}' within ${REQUEST_TIMEOUT_MS / 1000} s`));
      }, REQUEST_TIMEOUT_MS);
      this.#unanswered.set(id, { message, resolve, reject, timer });
    });
  }

  /** As a request whose answer makes no difference, unless it says to try again. */
  #tell(message) {
    this.#request(message).catch((error) => {
      if (error.code === "rate_limited" && this.state === "joined") {
        setTimeout(() => this.#tell(message), error.retryMs ?? 1000);
      }
    });
  }

  #received(message) {
    this.#heard++;
    clearTimeout(this.#silence);
    this.#silence = null;
    if (message.seq !== undefined) {
      if (message.seq <= this.#seq) return;
      this.#seq = message.seq;
    }
    this._emit("received", message);
    const request = this.#unanswered.get(message.id);
    if (request) {
      this.#unanswered.delete(message.id);
      clearTimeout(request.timer);
      if (message.type === "error") {
        const error = new RoomError(message);
        if (message.fatal) this.#fatal = error;
        request.reject(error);
      } else {
        request.resolve(message);
      }
      return;
    }
    const { type, from } = message;
    if (type === "peer") this.#peerEvent(message);
    else if (type === "signal") this.peers.get(from)?._signal(message);
    else if (type === "message") this._emit("message", { from: this.peers.get(from) ?? from, data: message.data });
    else if (type === "ice") this.#renewed(message.ice);
    else if (type === "state") this.#valueSet(message);
    else if (type === "room") this.#roomChanged(message);
    else if (type === "draining") this.#draining(message);
    else if (type === "error" && message.fatal) this.#fatal = new RoomError(message);
  }

  #peerEvent(message) {
    const peer = this.peers.get(message.peer);
    if (message.event === "join") {
      this.#add(message);
    } else if (message.event === "leave") {
      if (peer) peer.reason = message.reason ?? null;
      this.#remove(message.peer);
    } else if (peer && ["away", "back"].includes(message.event)) {
      peer.away = message.event === "away";
      this._emit("presence", peer);
    }
  }

  #valueSet({ from, key, value = null }) {
    if (value === null) this.values.delete(key);
    else this.values.set(key, value);
    this._emit("value", { key, value, from: this.peers.get(from) ?? from });
  }

  #roomChanged({ locked, moderators }) {
    Object.assign(this, { locked, moderators });
    this._emit("room", this);
  }

  #draining({ after_ms: afterMs = 0 }) {
    this._emit("draining", afterMs);
    const link = this.#link;
    setTimeout(() => { if (link === this.#link && link !== null) this.#dead(); }, afterMs * (0.5 + Math.random() / 2));
  }

  // ---- members

  #add({ peer: id, name, you, state }) {
    this.#remove(id);
    const peer = new Peer({ id, name, away: state === "away", ...you }, {
      config: () => this.#config(),
      refresh: async () => {
        await this.#refreshIce();
        return this.#config();
      },
      signal: (content) => this.#tell({ type: "signal", to: id, pc: "main", ...content }),
      report: (content) => this.#request({ type: "report", peer: id, pc: "main", ...content }).catch(() => {}),
    });
    this.peers.set(id, peer);
    this._emit("peer", peer); // listeners first: they must not miss the first events
    for (const [kind, track] of this.#tracks) peer._setTrack(kind, track);
  }

  #remove(id) {
    const peer = this.peers.get(id);
    if (!peer) return;
    this.peers.delete(id);
    peer._close();
    this._emit("left", peer);
  }

  /** Keeps the configuration, and asks for the next one if the server does not send it in time. */
  #setIce(ice) {
    clearTimeout(this.#iceTimer);
    if (!Array.isArray(ice?.iceServers)) return;
    this.ice = ice;
    if (ice.ttl > 0) {
      const ms = Math.min(ice.ttl * 880, 2 ** 31 - 1);
      this.#iceTimer = setTimeout(() => this.#refreshIce().catch(() => {}), ms);
    }
  }

  #renewed(ice) {
    this.#setIce(ice);
    for (const peer of this.peers.values()) peer._configure(this.#config());
  }

  async #refreshIce() {
    try {
      this.#setIce((await this.#request({ type: "ice" })).ice);
      this.iceRefused = null;
    } catch (error) {
      if (error instanceof RoomError) this.iceRefused = error.message;
      throw error;
    }
  }

  #config() {
    return this.#options.configure({
      iceServers: this.ice.iceServers,
      iceTransportPolicy: this.ice.iceTransportPolicy ?? "all",
      bundlePolicy: "max-bundle",
    });
  }
}

/**
 * Another member of the room, and the connection to it.
 *
 * Events: `stream` (their MediaStream, whenever its tracks change), `message` (text from the data channel),
 * `state` ({ machine, state } of signalingState, iceConnectionState, connectionState, channel),
 * `failed` (no path was found, or none in time: `errors` may say why; it is tried again), `restart` (ICE is about to be
 * restarted), `rebuild` (`pc` was replaced by a fresh one), `trouble` (an Error
 * worth a log line).
 */
export class Peer extends Emitter {
  /** The RTCPeerConnection; another one after `rebuild`. @type {RTCPeerConnection} */
  pc = null;
  /** For text; both sides have it from the start. @type {RTCDataChannel} */
  channel = null;
  /** What they send, as far as it is switched on. The same object all the time. */
  stream = new MediaStream();
  /** Has it lost its connection to the server? Media may flow all the same. */
  away = false;
  /** What went wrong with servers since the last ICE restart: [{ url, code, text }] of `icecandidateerror`. */
  errors = [];
  /** Is there no path, after all that was tried? It is tried again. */
  failed = false;
  /** Did a relay give us an address since then? */
  relayed = false;
  /** Why it left ("kicked"), if there is a reason. */
  reason = null;
  /** Milliseconds from the start to the first "connected"; null before. */
  connectedMs = null;

  #hooks;
  #gen = 0; // counts the RTCPeerConnections to this peer; signals carry it
  #tracks = new Map(); // kind -> track or null: what we want to send
  #places = new Map(); // kind -> RTCRtpTransceiver
  #switches = null; // { audio, video }: what they say they send
  #makingOffer = false;
  #ignoreOffer = false;
  #answerPending = false;
  #mayOffer = false;
  #batch = null; // candidates that wait to be sent
  #switchChannel = null;
  #repairs = 0;
  #repairTimer = null;
  #deadline = null; // of the first path
  #slow = null; // until this try is overdue
  #overdue = false;
  #errors = []; // { url, code } of candidate errors, for the report
  #started = performance.now();

  constructor({ id, name, polite, offerer, away }, hooks) {
    super();
    this.id = id;
    /** As its owner wants to be called, or null. */
    this.name = name;
    /** Who gives way when offers cross, and who makes the first: the server says so. */
    this.polite = polite;
    this.offerer = offerer;
    this.away = away;
    this.#hooks = hooks;
    this.#open(0);
  }

  /** As `on` of any event; a listener for `stream` gets what is there already, too. */
  on(type, listener) {
    const off = super.on(type, listener);
    if (type === "stream" && this.stream.getTracks().length) listener(this.stream);
    return off;
  }

  /** Sends text over the data channel; false if it is not open. */
  send(text) {
    if (this.channel.readyState !== "open") return false;
    this.channel.send(text);
    return true;
  }

  /**
   * The path in use, as of {@link describePath}. `words` is for people ("relayed over TLS, 48 ms"); `local` and `remote`
   * are the RTCIceCandidateStats of the selected pair.
   */
  async path() {
    return describePath(await this.pc.getStats());
  }

  /** Sums since the connection was made, of all media and data; two of them make {@link rates}. */
  async totals() {
    return sums(await this.pc.getStats(), performance.now());
  }

  #open(gen) {
    const pc = new RTCPeerConnection(this.#hooks.config());
    this.pc = pc;
    this.#gen = gen;
    this.#mayOffer = this.offerer;
    this.#makingOffer = this.#ignoreOffer = this.#answerPending = false;
    this.#batch = null;
    this.#places.clear();
    this.#switches = null;
    this.#deadline = setTimeout(() => this.#fail(), CONNECT_WITHIN_MS);
    this.#giveTime();
    pc.onnegotiationneeded = () => this.#offer(pc);
    pc.onicecandidate = ({ candidate }) => this.#candidate(pc, candidate);
    pc.onicecandidateerror = ({ url, errorCode, errorText }) => {
      if (this.#errors.length < MAX_ERRORS) this.#errors.push({ url, code: errorCode });
      this.errors = [...this.errors.slice(-MAX_ERRORS), { url, code: errorCode, text: errorText }];
      this._emit("trouble", new Error(`${url}: ${errorCode} ${errorText}`));
    };
    pc.ontrack = ({ track }) => {
      track.onmute = track.onunmute = () => this.#showTheirs();
      this.#showTheirs();
    };
    pc.onsignalingstatechange = () => this.#changed("signalingState");
    pc.onconnectionstatechange = () => {
      this.#changed("connectionState");
      this.#watchPath();
    };
    pc.oniceconnectionstatechange = () => {
      this.#changed("iceConnectionState");
      this.#watchPath();
    };
    // The same channels on both sides from the start: no side has to wait for them, and a call
    // without camera and microphone still has something to negotiate.
    this.channel = pc.createDataChannel("chat", { negotiated: true, id: 0 });
    this.channel.onopen = this.channel.onclose =
      ({ target }) => this._emit("state", { machine: "channel", state: target.readyState });
    this.channel.onmessage = ({ data }) => this._emit("message", data);
    this.#switchChannel = pc.createDataChannel("switches", { negotiated: true, id: 1 });
    this.#switchChannel.onopen = () => this.#sendSwitches();
    this.#switchChannel.onmessage = ({ data }) => this.#receiveSwitches(data);
    if (this.offerer) for (const kind of ["audio", "video"]) this.#place(kind, pc.addTransceiver(kind));
  }

  #shut() {
    clearTimeout(this.#repairTimer);
    clearTimeout(this.#deadline);
    clearTimeout(this.#slow);
    const { pc } = this;
    for (const event of Object.keys(RTCPeerConnection.prototype)) if (event.startsWith("on")) pc[event] = null;
    pc.close();
  }

  /** A fresh connection where mending the old one is hopeless. Roles stay: first offers must not cross. */
  #rebuild(gen) {
    this.#shut();
    this.#open(gen);
    this.#showTheirs();
    this._emit("rebuild", gen);
  }

  // ---- perfect negotiation

  async #offer(pc) {
    // The earlier member waits for the later one's offer; what it adds meanwhile goes into its answer.
    if (!this.#mayOffer) return;
    try {
      this.#makingOffer = true;
      await pc.setLocalDescription();
      this.#signal(pc, { description: pc.localDescription });
    } catch (error) {
      this.#broken(pc, error);
    } finally {
      if (pc === this.pc) this.#makingOffer = false;
    }
  }

  async _signal({ gen = 0, description, candidates }) {
    if (gen > this.#gen) this.#rebuild(gen); // the other side began anew
    if (gen < this.#gen) return; // meant for a connection that is gone
    const { pc } = this;
    try {
      if (description) await this.#description(pc, description);
      for (const candidate of candidates ?? []) await this.#addCandidate(pc, candidate);
    } catch (error) {
      this.#broken(pc, error);
    }
  }

  async #description(pc, description) {
    const ready = !this.#makingOffer && (pc.signalingState === "stable" || this.#answerPending);
    this.#ignoreOffer = !this.polite && description.type === "offer" && !ready;
    if (this.#ignoreOffer) return;
    this.#mayOffer = true;
    this.#answerPending = description.type === "answer";
    await pc.setRemoteDescription(description); // rolls our own offer back, if we are polite
    this.#answerPending = false;
    if (description.type === "offer") {
      for (const place of pc.getTransceivers()) this.#place(place.receiver.track.kind, place);
      await pc.setLocalDescription();
      this.#signal(pc, { description: pc.localDescription });
    }
    this.#fill();
  }

  async #addCandidate(pc, candidate) {
    try {
      await pc.addIceCandidate(candidate ?? undefined); // null: there are no more
    } catch (error) {
      // One bad candidate is no reason to give up: others may do.
      if (!this.#ignoreOffer && candidate && pc === this.pc) this._emit("trouble", error);
    }
  }

  #candidate(pc, candidate) {
    if (!this.#batch) {
      const batch = [];
      this.#batch = batch;
      setTimeout(() => {
        if (this.#batch === batch) this.#batch = null;
        this.#signal(pc, { candidates: batch });
      }, BATCH_MS);
    }
    if (/ typ relay /.test(candidate?.candidate)) this.relayed = true;
    this.#batch.push(candidate?.candidate ? candidate.toJSON() : null);
  }

  #signal(pc, content) {
    if (pc === this.pc && pc.signalingState !== "closed") this.#hooks.signal({ gen: this.#gen, ...content });
  }

  /** A description that could not be made or taken: nothing that follows would fit, so begin anew. */
  #broken(pc, error) {
    if (pc !== this.pc || pc.signalingState === "closed") return;
    this._emit("trouble", error);
    if (this.#gen >= MAX_REBUILDS) return;
    this.#rebuild(this.#gen + 1);
    // The offerer's first offer tells the other side. Who waits for it has to say something with the new number.
    if (!this.offerer) this.#signal(this.pc, { candidates: [null] });
  }

  // ---- media
  //
  // The first offer has one place for audio and one for video, both ways, and so it stays: what is switched on and
  // off goes in and out of its place without another negotiation, and a word over a data channel tells the other
  // side. Negotiating each switch would work, too, until two offers cross: Chromium can't roll one back whose places
  // differ in kind, and may leave a track muted for ever.

  _setTrack(kind, track) {
    this.#tracks.set(kind, track);
    const place = this.#places.get(kind);
    if (place) this.#put(place, track);
    this.#fill();
    this.#sendSwitches();
  }

  #place(kind, place) {
    if (this.#places.has(kind)) return;
    this.#places.set(kind, place);
    place.direction = "sendrecv";
    this.#put(place, this.#tracks.get(kind) ?? null);
  }

  #put(place, track) {
    place.sender.replaceTrack(track).catch((error) => this._emit("trouble", error));
  }

  /** Other clients may have offered fewer places than we need. */
  #fill() {
    if (!this.pc.currentRemoteDescription) return;
    for (const [kind, track] of this.#tracks) {
      if (track && !this.#places.has(kind)) this.#place(kind, this.pc.addTransceiver(kind));
    }
  }

  #sendSwitches() {
    if (this.#switchChannel.readyState !== "open") return;
    const on = (kind) => Boolean(this.#tracks.get(kind));
    this.#switchChannel.send(JSON.stringify({ audio: on("audio"), video: on("video") }));
  }

  #receiveSwitches(data) {
    try {
      const { audio, video } = JSON.parse(data);
      this.#switches = { audio: audio === true, video: video === true };
      this.#showTheirs();
    } catch (error) {
      this._emit("trouble", error);
    }
  }

  /** Brings `stream` up to date. Of those who don't say what is on, what arrives is on. */
  #showTheirs() {
    const wanted = [...this.#places].map(([kind, place]) => [kind, place.receiver.track])
      .filter(([kind, track]) => (this.#switches ? this.#switches[kind] : !track.muted)).map(([, track]) => track);
    const shown = this.stream.getTracks();
    const gone = shown.filter((track) => !wanted.includes(track));
    const come = wanted.filter((track) => !shown.includes(track));
    for (const track of gone) this.stream.removeTrack(track);
    for (const track of come) this.stream.addTrack(track);
    if (gone.length || come.length) this._emit("stream", this.stream);
  }

  // ---- the path: watch it, repair it

  #changed(machine) {
    const state = this.pc[machine];
    if (machine === "connectionState") {
      if (state === "connected") this.#connected();
      if (state === "failed") this.#fail();
    }
    this._emit("state", { machine, state });
  }

  #connected() {
    clearTimeout(this.#deadline);
    clearTimeout(this.#slow);
    this.#overdue = false;
    this.failed = false;
    this.connectedMs ??= this.#age();
    this.#report("connected");
  }

  #fail() {
    clearTimeout(this.#deadline);
    this.failed = true;
    this.#report("failed");
    this._emit("failed", this);
    this.#repairIn(0);
  }

  #age() { return Math.round(performance.now() - this.#started); }

  /** Tells the server how it went: from this its operator knows whether people get connected. */
  async #report(state) {
    const ms = this.#age();
    const path = await this.path();
    this.#hooks.report({
      state, ms, errors: this.#errors, local: path?.local.candidateType, remote: path?.remote.candidateType,
      relay: path?.relay && path.relay !== "theirs" ? path.relay : undefined,
      rtt_ms: path?.rttMs ?? undefined, family: familyOf(path?.local.address),
    });
  }

  #watchPath() {
    const { iceConnectionState: ice, connectionState } = this.pc;
    if (connectionState === "connected") {
      clearTimeout(this.#repairTimer);
      this.#repairs = 0;
    } else if (ice === "failed" || connectionState === "failed") {
      this.#repairIn(0); // Chromium may say so in one of the two only
    } else if (ice === "disconnected") {
      this.#repairUnlessAlive(this.pc);
    }
  }

  /** What looks disconnected may still bring bytes: repaired is what brings none for a while. */
  async #repairUnlessAlive(pc) {
    this.#repairIn(RESTART_AFTER_MS);
    const before = await this.totals();
    await new Promise((resolve) => { setTimeout(resolve, RESTART_AFTER_MS * 0.9); });
    if (pc !== this.pc || pc.iceConnectionState !== "disconnected") return;
    const after = await this.totals();
    if (after.bytesReceived > before.bytesReceived) this.#repairUnlessAlive(pc);
  }

  /** There are other ways out: the present path may be dead, or no longer the best. */
  _networkChanged() {
    clearTimeout(this.#repairTimer);
    this.#repairTimer = setTimeout(() => this.#restart(this.pc, true), 200);
  }

  /** The offerer goes first, the other side steps in if that didn't help. */
  get #turn() { return this.offerer ? 0 : 2000; }

  /** What is under way is not disturbed, but not for ever: whatever it is called then, it is tried again. */
  #giveTime() {
    clearTimeout(this.#slow);
    this.#overdue = false;
    this.#slow = setTimeout(() => {
      this.#overdue = true;
      this.#restart(this.pc);
    }, GIVE_UP_AFTER_MS + this.#turn);
  }

  #repairIn(ms) {
    clearTimeout(this.#repairTimer);
    // Each failure lengthens the pause.
    const pause = this.#repairs === 0 ? 0 : Math.min(30000, 1000 * 2 ** this.#repairs);
    this.#repairTimer = setTimeout(() => this.#restart(this.pc), ms + this.#turn + pause);
  }

  async #restart(pc, anyway = false) {
    const bad = this.failed ? ["failed", "disconnected", "new"] : ["failed", "disconnected"];
    const down = () => pc === this.pc && (anyway || (this.#overdue ? pc.connectionState !== "connected"
      : bad.some((state) => state === pc.iceConnectionState || state === pc.connectionState)));
    if (!down() || pc.signalingState === "closed" || (anyway && !pc.remoteDescription)) return;
    if (!anyway && ["connected", "completed"].includes(pc.iceConnectionState)) {
      this.#broken(pc, new Error("there is a path, but no encrypted connection over it"));
      return;
    }
    this.#repairs++;
    this._emit("restart", this.#repairs);
    try {
      this._configure(await this.#hooks.refresh());
    } catch (error) {
      this._emit("trouble", error); // the old servers may still do
    }
    if (!down()) return;
    this.relayed = false;
    this.errors = []; // of what is tried now
    pc.restartIce(); // an offer follows through onnegotiationneeded
    this.#giveTime();
    this.#repairIn(RESTART_AFTER_MS); // nothing may come of it, not even a change of state
  }

  _configure(config) {
    try {
      this.pc.setConfiguration(config);
    } catch (error) {
      this._emit("trouble", error);
    }
  }

  _close() {
    this.#shut();
    for (const machine of ["signalingState", "iceConnectionState", "connectionState"]) this.#changed(machine);
  }
}

/**
 * The selected candidate pair of an RTCStatsReport: { words, local, remote, relay, rttMs }, or null. `relay` is how our
 * relay is reached ("udp", "tcp", "tls"), "theirs" if only the other side uses one, and null on a direct path.
 */
export function describePath(stats) {
  const all = [...stats.values()];
  const transport = all.find((s) => s.type === "transport" && s.selectedCandidatePairId);
  const pair = transport
    ? stats.get(transport.selectedCandidatePairId)
    : all.find((s) => s.type === "candidate-pair" && s.selected); // Firefox
  const local = pair && stats.get(pair.localCandidateId);
  const remote = pair && stats.get(pair.remoteCandidateId);
  if (!local || !remote) return null;
  const rttMs = pair.currentRoundTripTime === undefined ? null : Math.round(pair.currentRoundTripTime * 1000);
  const relay = local.candidateType === "relay" ? relayTransport(local) : remote.candidateType === "relay" ? "theirs" : null;
  const words = [pathInWords(local, relay)];
  if (rttMs !== null) words.push(rttMs < 1 ? "under 1 ms" : `${rttMs} ms`);
  return { words: words.join(", "), local, remote, relay, rttMs };
}

/** Sums of an RTCStatsReport. */
function sums(stats, at) {
  const all = { at, bytesReceived: 0, bytesSent: 0, packetsReceived: 0, packetsLost: 0, rttMs: describePath(stats)?.rttMs ?? null };
  for (const s of stats.values()) {
    if (s.type === "transport" || (s.type === "candidate-pair" && s.selected)) {
      all.bytesReceived = Math.max(all.bytesReceived, s.bytesReceived ?? 0);
      all.bytesSent = Math.max(all.bytesSent, s.bytesSent ?? 0);
    } else if (s.type === "inbound-rtp") {
      all.packetsReceived += s.packetsReceived ?? 0;
      all.packetsLost += s.packetsLost ?? 0;
    }
  }
  return all;
}

function familyOf(address) {
  if (!address) return undefined;
  return address.includes(":") ? "ipv6" : /^[\d.]+$/.test(address) ? "ipv4" : undefined;
}

function pathInWords({ protocol = "udp" }, relay) {
  if (relay === "theirs") return `relayed by the other side, ${protocol.toUpperCase()}`;
  return relay ? `relayed over ${relay.toUpperCase()}` : `direct, ${protocol.toUpperCase()}`;
}

function relayTransport({ relayProtocol, url = "" }) {
  if (relayProtocol) return relayProtocol;
  if (url.startsWith("turns:")) return "tls"; // Firefox has the URL only
  return url.includes("transport=tcp") ? "tcp" : "udp";
}
