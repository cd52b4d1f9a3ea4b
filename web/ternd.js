/**
 * ternd.js: the client of ternd's rooms (protocol `ternd.v1`), a module for any page.
 *
 *     import { Room } from "https://turn.example.org/ternd.js";
 *
 *     const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
 *     const room = new Room({ room: "demo", stream });
 *     room.on("peer", (peer) => {
 *       peer.on("stream", (theirs) => { document.querySelector("video").srcObject = theirs; });
 *       peer.on("message", (text) => console.log(text));
 *     });
 *     await room.join();
 *
 *       Room ──── WebSocket, JSON ──── ternd ──── WebSocket, JSON ──── Room
 *        └ Peer ═════════ media and one data channel, direct or relayed ═════════ Peer ┘
 *
 * In: a room's name and local tracks. Out: a `Peer` for each other member, with an RTCPeerConnection that
 * negotiates by itself ("perfect negotiation", W3C WebRTC section 10.7), restarts ICE with fresh credentials
 * when the path breaks, and comes back after the server or the network was away. Roles come from the server.
 */

const RESTART_AFTER_MS = 3000; // "disconnected" often heals by itself within this time
const FIRST_BACKOFF_MS = 500;
const LAST_BACKOFF_MS = 10000;
const REQUEST_TIMEOUT_MS = 15000;
const BATCH_MS = 20; // candidates found within this time travel in one message
const MAX_ERRORS = 16; // of candidates, in one report
const MAX_REBUILDS = 5; // RTCPeerConnections tried for one peer
const MAX_REJOINS_WHEN_FULL = 25; // our own former self may hold the seat for a while

/** Close codes after which trying again is pointless: protocol, auth, version, replaced, kicked. */
const FINAL_CLOSE_CODES = new Set([4000, 4001, 4002, 4005, 4006]);

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
  constructor({ code, message, retry_ms: retryMs = null, fatal = false }) {
    super(message);
    Object.assign(this, { name: "RoomError", code, retryMs, fatal });
  }
}

/**
 * A seat in a room.
 *
 * Options: `room` (its name); `name` (yours, shown to others); `stream` (a MediaStream to send);
 * `url` (default: /v1/ws beside this file); `configure(config)`, which may change the RTCConfiguration
 * before it is used; `returning` (true after a reload: the seat may look taken for a while).
 *
 * Events: `state` ("idle" | "connecting" | "joined" | "waiting"), `joined`, `peer` (a Peer came),
 * `left` (a Peer went), `refused` (a RoomError, and the room is idle again), `sent` and `received`
 * (every protocol message, for logs), `retry` (milliseconds until the next attempt).
 */
export class Room extends Emitter {
  state = "idle";
  /** Our id in the room, while joined. */
  self = null;
  /** The other members, by id. */
  peers = new Map();
  /** What the server said last about ICE servers. */
  ice = { iceServers: [] };

  #options;
  #tracks = new Map(); // kind -> track or null
  #socket = null;
  #requests = new Map(); // id -> { resolve, reject, timer }
  #lastId = 0;
  #attempt = 0;
  #wasMember = false;
  #fullTries = 0;
  #timer = null;
  #iceTimer = null;
  #first = null; // { resolve, reject } of join()
  // A network that came back should not wait for the pause to end.
  #online = () => this.state === "waiting" && this.#connect();

  constructor(options) {
    super();
    const url = new URL("/v1/ws", import.meta.url);
    url.protocol = url.protocol === "http:" ? "ws:" : "wss:";
    this.#options = { url: url.href, configure: (config) => config, ...options };
    for (const track of options.stream?.getTracks() ?? []) this.setTrack(track.kind, track);
  }

  get room() { return this.#options.room; }

  /** Enters the room and stays in it. Resolves when joined, rejects with a RoomError when refused. */
  join() {
    if (this.state !== "idle") return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#first = { resolve, reject };
      this.#attempt = this.#fullTries = 0;
      this.#wasMember = this.#options.returning === true;
      addEventListener("online", this.#online);
      this.#connect();
    });
  }

  /** Leaves the room; the others learn it at once. */
  leave() {
    this.#send({ type: "bye" });
    this.#stop();
    this.#first?.reject(new Error("left before it was joined"));
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

  // ---- the WebSocket: connect, hello, join; again with growing pauses

  #connect() {
    clearTimeout(this.#timer);
    this.#setState("connecting");
    const socket = new WebSocket(this.#options.url, "ternd.v1");
    this.#socket = socket;
    socket.onopen = () => this.#enter(socket);
    socket.onmessage = ({ data }) => socket === this.#socket && this.#received(JSON.parse(data));
    socket.onclose = (event) => socket === this.#socket && this.#closed(event);
    this.#timer = setTimeout(() => socket.close(), REQUEST_TIMEOUT_MS); // a SYN into the void
  }

  async #enter(socket) {
    clearTimeout(this.#timer);
    const { room, name } = this.#options;
    try {
      await this.#request({ type: "hello", client: "ternd.js/1" });
      const joined = await this.#request({ type: "join", room, create: "if-missing", name });
      if (socket === this.#socket) this.#joined(joined);
    } catch (error) {
      if (socket === this.#socket) this.#refused(error);
    }
  }

  #joined({ self, peers, ice }) {
    // Members of before carry old ids: their connections are over, also where packets still flow.
    for (const peer of [...this.peers.values()]) this.#remove(peer.id);
    this.self = self;
    this.#setIce(ice);
    this.#attempt = this.#fullTries = 0;
    this.#wasMember = true;
    this.#setState("joined");
    this._emit("joined", { self, room: this.room });
    for (const peer of peers) this.#add(peer);
    this.#first?.resolve();
    this.#first = null;
  }

  #refused(error) {
    const seatTaken = error.code === "room_full" && this.#wasMember && this.#fullTries++ < MAX_REJOINS_WHEN_FULL;
    if (!(error instanceof RoomError) || error.retryMs !== null || seatTaken) {
      this.#again(error.retryMs ?? 2000);
      return;
    }
    this.#send({ type: "bye" });
    this.#stop();
    this.#first?.reject(error);
    this.#first = null;
    this._emit("refused", error);
  }

  #closed({ code, reason }) {
    if (FINAL_CLOSE_CODES.has(code)) {
      this.#refused(new RoomError({ code: `closed_${code}`, message: reason || `The server closed with code ${code}` }));
      return;
    }
    const longest = Math.min(LAST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** this.#attempt++);
    this.#again(longest * (0.5 + Math.random() / 2)); // spread: a whole room comes back after a restart
  }

  #again(ms) {
    this.#drop();
    this.#setState("waiting");
    this._emit("retry", Math.round(ms));
    this.#timer = setTimeout(() => this.#connect(), ms);
  }

  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#iceTimer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    for (const { reject, timer } of this.#requests.values()) {
      clearTimeout(timer);
      reject(new Error("the connection to the server was lost"));
    }
    this.#requests.clear();
  }

  #stop() {
    removeEventListener("online", this.#online);
    this.#drop();
    for (const peer of [...this.peers.values()]) this.#remove(peer.id);
    this.self = null;
    this.#setState("idle");
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this._emit("state", state);
  }

  // ---- messages

  #send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    this._emit("sent", message);
    return true;
  }

  #request(message) {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      if (!this.#send({ ...message, id })) {
        reject(new Error("not connected to the server"));
        return;
      }
      const timer = setTimeout(() => {
        this.#requests.delete(id);
        reject(new Error(`no answer to '${message.type}' within ${REQUEST_TIMEOUT_MS / 1000} s`));
      }, REQUEST_TIMEOUT_MS);
      this.#requests.set(id, { resolve, reject, timer });
    });
  }

  #received(message) {
    this._emit("received", message);
    const request = this.#requests.get(message.id);
    if (request) {
      this.#requests.delete(message.id);
      clearTimeout(request.timer);
      if (message.type === "error") request.reject(new RoomError(message));
      else request.resolve(message);
      return;
    }
    switch (message.type) {
      case "peer":
        if (message.event === "join") this.#add(message);
        if (message.event === "leave") this.#remove(message.peer);
        break;
      case "signal":
        this.peers.get(message.from)?._signal(message);
        break;
    }
  }

  // ---- members

  #add({ peer: id, name, you }) {
    this.#remove(id);
    const peer = new Peer({ id, name, ...you }, {
      config: () => this.#config(),
      refresh: async () => {
        await this.#refreshIce();
        return this.#config();
      },
      signal: (content) => this.#send({ type: "signal", to: id, pc: "main", ...content }),
      report: (content) => this.#send({ type: "report", peer: id, pc: "main", ...content }),
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

  /** Keeps the configuration and asks for the next one before its credentials end: somebody may come late. */
  #setIce(ice) {
    clearTimeout(this.#iceTimer);
    if (!Array.isArray(ice?.iceServers)) return;
    this.ice = ice;
    if (ice.ttl > 0) this.#iceTimer = setTimeout(() => this.#refreshIce().catch(() => {}), ice.ttl * 800);
  }

  async #refreshIce() {
    this.#setIce((await this.#request({ type: "ice" })).ice);
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
 * `restart` (ICE is about to be restarted), `rebuild` (`pc` was replaced by a fresh one), `trouble` (an Error
 * worth a log line).
 */
export class Peer extends Emitter {
  /** The RTCPeerConnection; another one after `rebuild`. */
  pc = null;
  /** What they send, as far as it is switched on. The same object all the time. */
  stream = new MediaStream();
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
  #errors = []; // { url, code } of candidate errors, for the report
  #started = performance.now();

  constructor({ id, name, polite, offerer }, hooks) {
    super();
    Object.assign(this, { id, name, polite, offerer });
    this.#hooks = hooks;
    this.#open(0);
  }

  /** Sends text over the data channel; false if it is not open. */
  send(text) {
    if (this.channel.readyState !== "open") return false;
    this.channel.send(text);
    return true;
  }

  /**
   * The path in use: { words, local, remote, rttMs }, or null. `words` is for people ("relayed over TLS,
   * 48 ms"); `local` and `remote` are the RTCIceCandidateStats of the selected pair.
   */
  async path() {
    return describePath(await this.pc.getStats());
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
    pc.onnegotiationneeded = () => this.#offer(pc);
    pc.onicecandidate = ({ candidate }) => this.#candidate(pc, candidate);
    pc.onicecandidateerror = ({ url, errorCode, errorText }) => {
      if (this.#errors.length < MAX_ERRORS) this.#errors.push({ url, code: errorCode });
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
      if (state === "connected") this.connectedMs ??= this.#age();
      if (state === "connected" || state === "failed") this.#report(state);
    }
    this._emit("state", { machine, state });
  }

  #age() { return Math.round(performance.now() - this.#started); }

  /** Tells the server how it went: from this its operator knows whether people get connected. */
  async #report(state) {
    const ms = this.#age();
    const path = await this.path();
    this.#hooks.report({
      state, ms, errors: this.#errors, local: path?.local.candidateType, remote: path?.remote.candidateType,
      relay: path?.local.candidateType === "relay" ? relayTransport(path.local) : undefined,
      rtt_ms: path?.rttMs ?? undefined,
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
      this.#repairIn(RESTART_AFTER_MS);
    }
  }

  #repairIn(ms) {
    clearTimeout(this.#repairTimer);
    // The offerer goes first, the other side steps in if that didn't help; each failure lengthens the pause.
    const turn = this.offerer ? 0 : 2000;
    const pause = this.#repairs === 0 ? 0 : Math.min(30000, 1000 * 2 ** this.#repairs);
    this.#repairTimer = setTimeout(() => this.#restart(this.pc), ms + turn + pause);
  }

  async #restart(pc) {
    const down = () => pc === this.pc && ["failed", "disconnected"].some(
      (state) => state === pc.iceConnectionState || state === pc.connectionState);
    if (!down()) return;
    if (["connected", "completed"].includes(pc.iceConnectionState)) {
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
    pc.restartIce(); // an offer follows through onnegotiationneeded
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

/** The selected candidate pair of an RTCStatsReport: { words, local, remote, rttMs }, or null. */
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
  const words = [pathInWords(local, remote)];
  if (rttMs !== null) words.push(rttMs < 1 ? "under 1 ms" : `${rttMs} ms`);
  return { words: words.join(", "), local, remote, rttMs };
}

function pathInWords(local, remote) {
  if (local.candidateType === "relay") return `relayed over ${relayTransport(local).toUpperCase()}`;
  const transport = (local.protocol ?? "udp").toUpperCase();
  return remote.candidateType === "relay" ? `relayed by the other side, ${transport}` : `direct, ${transport}`;
}

function relayTransport({ relayProtocol, url = "" }) {
  if (relayProtocol) return relayProtocol;
  if (url.startsWith("turns:")) return "tls"; // Firefox has the URL only
  return url.includes("transport=tcp") ? "tcp" : "udp";
}
