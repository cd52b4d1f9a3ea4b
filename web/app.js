/**
 * The demo page: camera and microphone, a room, video, chat, and what happens underneath.
 *
 * In: the address (`/r/ROOM`, and the options below), clicks, the events of ternd.js. Out: the page.
 *
 * Options in the address, for tests and for finding faults:
 *   ?auto=1         start the devices and join at once
 *   ?media=KINDS    which devices that starts: any of video,audio; none (default: video,audio)
 *   ?name=NAME      your name
 *   ?policy=relay   relayed paths only
 *   ?servers=KINDS  keep only these of the servers offered: any of stun,udp,tcp,tls (the last three: TURN over ...)
 *
 * For tests: elements have stable ids, a peer's tile is `figure[data-peer=ID]`, and `window.ternd` is
 *   { room, snapshot() }: the Room or null, and a promise of plain data:
 *   { state, room, self, camera, microphone, messages: [{ from, text }], log: [line],
 *     peers: [{ id, name, polite, offerer, signalingState, iceConnectionState, connectionState, channel,
 *               connectedMs, restarts, path: { words, local, remote, rttMs } | null, framesDecoded, videoTime }] }
 */
import { Room } from "/ternd.js";

const MAX_LOG = 1000;
const MAX_MESSAGES = 500;
const MAX_TEXT = 4000; // characters shown of one chat line
const PATH_EVERY_MS = 2000;
const MEMORY = "ternd.call"; // sessionStorage: what to go back to after a reload

const $ = (id) => document.getElementById(id);
const options = new URLSearchParams(location.search);

let room = null;
const tiles = new Map(); // peer id -> { figure, video, path, machines, restarts }
const devices = { video: null, audio: null }; // our tracks
const picture = new MediaStream(); // our own camera, for our own eyes
const messages = [];
const log = [];

// ---- small helpers

/** An element with attributes and children; text is text, never HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function notice(text, about = "") {
  $("notice").textContent = text;
  $("notice").hidden = !text;
  $("notice").dataset.about = about;
}

const nameOf = (peer) => peer?.name || "Guest";

/** Adds to a list that may be scrolled: stays at the end only if it was there. */
function appendTo(list, item, most) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  while (list.childElementCount > most) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

async function copy(text, button) {
  const label = button.querySelector("span") ?? button;
  const before = button.dataset.label ?? (button.dataset.label = label.textContent);
  try {
    await navigator.clipboard.writeText(text);
    label.textContent = "Copied";
    setTimeout(() => { label.textContent = before; }, 1500);
  } catch {
    notice(`This browser did not let the page copy. The link is ${text}`);
  }
}

// ---- rooms and their links

const ROOM = /^[\p{Alphabetic}\p{N}][\p{Alphabetic}\p{N}._~-]{0,63}$/u;
const WORDS = [
  ["calm", "bright", "quiet", "green", "early", "warm", "clear", "gentle", "brave", "light"],
  ["otter", "heron", "maple", "river", "harbor", "meadow", "lantern", "willow", "finch", "pebble"],
];

function suggestRoom() {
  const [a, b, c] = crypto.getRandomValues(new Uint32Array(3));
  return `${WORDS[0][a % 10]}-${WORDS[1][b % 10]}-${1000 + (c % 9000)}`;
}

function roomInPath(path = location.pathname) {
  const found = path.match(/^\/r\/([^/]+)\/?$/);
  try {
    return found ? decodeURIComponent(found[1]) : "";
  } catch {
    return "";
  }
}

/** A room's name from what was typed: a name or a whole link. Empty if it is neither. */
function roomFrom(typed) {
  let name = typed.trim().normalize("NFC");
  if (/^https?:/i.test(name) && URL.canParse(name)) name = roomInPath(new URL(name).pathname);
  name = name.replaceAll(/\s+/g, "-");
  return ROOM.test(name) ? name : "";
}

const linkTo = (name) => `${location.origin}/r/${encodeURIComponent(name)}`;

// ---- camera and microphone

const WANTED = {
  video: { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" },
  audio: { echoCancellation: true, noiseSuppression: true },
};
const DEVICE = { video: "camera", audio: "microphone" };
const LABEL = { video: "camera", audio: "mic" };
const BUTTON = { video: $("camera"), audio: $("mic") };

async function startDevices(...kinds) {
  if (!navigator.mediaDevices) {
    notice("Camera and microphone need a secure page: open this one over https. Chat works without them.", "device");
    return;
  }
  for (const kind of kinds) BUTTON[kind].disabled = true;
  let failures = await openDevices(kinds);
  // One of two may be missing or refused: the other one can still be had.
  if (failures.length > 1) failures = (await Promise.all(kinds.map((kind) => openDevices([kind])))).flat();
  if (failures.length) notice(whyNoDevice(failures), "device");
  else if ($("notice").dataset.about === "device") notice("");
  for (const kind of kinds) BUTTON[kind].disabled = false;
}

/** Starts these devices, all or none. Returns what failed: [{ kind, error }]. */
async function openDevices(kinds) {
  try {
    const stream = await navigator.mediaDevices.getUserMedia(
      Object.fromEntries(kinds.map((kind) => [kind, WANTED[kind]])));
    for (const track of stream.getTracks()) useTrack(track.kind, track);
    return [];
  } catch (error) {
    return kinds.map((kind) => ({ kind, error }));
  }
}

function whyNoDevice(failures) {
  const which = failures.map(({ kind }) => DEVICE[kind]).join(" and ");
  const { error } = failures[0];
  const why = {
    NotAllowedError: `Access to the ${which} was refused. Allow it in the browser's address bar, then start again.`,
    NotFoundError: `The browser finds no ${which}.`,
    NotReadableError: `The ${which} cannot be read: another program may be using it.`,
  }[error.name] ?? `The ${which} could not be started: ${error.message}.`;
  return `${why} Chat works anyway, and you see and hear the others.`;
}

function useTrack(kind, track) {
  const old = devices[kind];
  if (old) {
    old.onended = null;
    old.stop();
  }
  devices[kind] = track;
  if (track) track.onended = () => { useTrack(kind, null); notice(`The ${DEVICE[kind]} was taken away.`, "device"); };
  if (kind === "video") {
    if (old) picture.removeTrack(old);
    if (track) picture.addTrack(track);
    $("local-video").srcObject = track ? picture : null;
    $("local").dataset.video = track ? "on" : "off";
  }
  BUTTON[kind].dataset.on = Boolean(track);
  BUTTON[kind].querySelector("span").textContent = `${track ? "Stop" : "Start"} ${LABEL[kind]}`;
  room?.setTrack(kind, track);
  remember();
}

// ---- in and out of a room

function enter(name, returning = false) {
  room?.leave();
  room = new Room({ room: name, name: $("name").value.trim() || undefined, configure, returning });
  watchRoom(room);
  for (const kind of ["video", "audio"]) if (devices[kind]) room.setTrack(kind, devices[kind]);
  if (roomInPath() !== name) history.pushState(null, "", `/r/${encodeURIComponent(name)}${location.search}`);
  document.title = `${name}: ternd`;
  $("link").value = linkTo(name);
  notice("");
  show("call");
  remember();
  room.join().catch(() => {}); // told by the event 'refused'
}

function exit() {
  const old = room;
  room = null;
  sessionStorage.removeItem(MEMORY);
  old?.leave();
  document.title = "ternd: a room for two";
  show("lobby");
  refresh();
}

function remember() {
  if (!room) return;
  const media = ["video", "audio"].filter((kind) => devices[kind]);
  sessionStorage.setItem(MEMORY, JSON.stringify({ room: room.room, name: $("name").value, media }));
}

function show(view) {
  document.body.dataset.view = view;
  if (view === "lobby") {
    $("messages").replaceChildren();
    messages.length = 0;
  }
}

/** The RTCConfiguration, as the options in the address want it. */
function configure(config) {
  const kinds = options.get("servers")?.split(",");
  const kindOf = (url) => (/^stuns?:/.test(url) ? "stun" : /^turns:/.test(url) ? "tls"
    : /transport=tcp/.test(url) ? "tcp" : "udp");
  const iceServers = config.iceServers
    .map((server) => ({ ...server, urls: [server.urls].flat().filter((url) => !kinds || kinds.includes(kindOf(url))) }))
    .filter((server) => server.urls.length > 0);
  return { ...config, iceServers, iceTransportPolicy: options.get("policy") ?? config.iceTransportPolicy };
}

function watchRoom(it) {
  it.on("state", (state) => { note("state", `room ${state}`); refresh(); });
  it.on("sent", (message) => note("sent", inWords(message)));
  it.on("received", (message) => note("received", inWords(message)));
  it.on("retry", (ms) => note("state", `next attempt in ${(ms / 1000).toFixed(1)} s`));
  it.on("peer", (peer) => { addTile(peer); say("page", `${nameOf(peer)} came in`); refresh(); });
  it.on("left", (peer) => { removeTile(peer); say("page", `${nameOf(peer)} left`); refresh(); });
  it.on("refused", (error) => {
    note("trouble", `${error.code}: ${error.message}`);
    if (it !== room) return;
    exit();
    notice(error.message);
  });
}

// ---- the others

function addTile(peer) {
  const path = make("span", { class: "path" });
  const video = make("video", { autoplay: "", playsinline: "", "aria-label": `Video of ${nameOf(peer)}` });
  const figure = make("figure", { class: "tile", "data-peer": peer.id, "data-video": "off" },
    video, document.querySelector("#local .face").cloneNode(true),
    make("figcaption", {}, make("span", { class: "who" }, nameOf(peer)), path));
  const machines = make("li", { "data-peer": peer.id });
  const tile = { figure, video, path, machines, restarts: 0 };
  tiles.set(peer.id, tile);
  $("tiles").insertBefore(figure, $("local"));
  $("machines").append(machines);

  peer.on("stream", (stream) => showStream(tile, stream));
  peer.on("message", (text) => say(nameOf(peer), String(text).slice(0, MAX_TEXT)));
  peer.on("trouble", (error) => note("trouble", `${nameOf(peer)}: ${error.message}`));
  peer.on("restart", (count) => { tile.restarts++; note("state", `${nameOf(peer)}: ICE restart ${count}`); });
  peer.on("rebuild", (gen) => note("trouble", `${nameOf(peer)}: connection ${gen}, made from scratch`));
  peer.on("state", ({ machine, state }) => {
    note("state", `${nameOf(peer)}: ${machine} ${state}`);
    if (machine === "connectionState") showPath(peer);
    refresh();
  });
  showPath(peer);
}

function removeTile(peer) {
  const tile = tiles.get(peer.id);
  tiles.delete(peer.id);
  tile?.video.pause();
  tile?.figure.remove();
  tile?.machines.remove();
}

function showStream(tile, stream) {
  const { video, figure } = tile;
  video.srcObject ??= stream;
  figure.dataset.video = stream.getVideoTracks().length ? "on" : "off";
  if (!stream.getTracks().length) return;
  video.play().catch((error) => {
    if (error.name !== "NotAllowedError" || figure.querySelector(".unmute")) return;
    // Sound needs a touch first. The picture need not wait for it.
    video.muted = true;
    video.play().catch(() => {});
    const button = make("button", { type: "button", class: "unmute primary" }, "Turn the sound on");
    button.onclick = () => { video.muted = false; button.remove(); };
    figure.append(button);
  });
}

async function showPath(peer) {
  const tile = tiles.get(peer.id);
  if (!tile) return;
  const connected = peer.pc.connectionState === "connected";
  const path = connected ? await peer.path().catch(() => null) : null;
  tile.path.textContent = path?.words ?? (connected ? "" : peer.pc.connectionState);
  const tone = (state) => ({ connected: "good", completed: "good", failed: "bad", disconnected: "bad" })[state] ?? "";
  const rows = ["signalingState", "iceConnectionState", "connectionState"].map((machine) => [machine, peer.pc[machine]]);
  rows.push(["data channel", peer.channel.readyState], ["path", path?.words ?? "none yet"]);
  tile.machines.replaceChildren(make("h3", {}, nameOf(peer)), make("dl", {}, ...rows.map(([term, value]) =>
    make("div", {}, make("dt", {}, term), make("dd", { "data-tone": tone(value) }, value)))));
}

setInterval(() => { for (const peer of room?.peers.values() ?? []) showPath(peer); }, PATH_EVERY_MS);

// ---- chat

function say(from, text) {
  messages.push({ from, text });
  if (messages.length > MAX_MESSAGES) messages.shift();
  const item = from === "page" || from === "me"
    ? make("li", { "data-from": from }, text)
    : make("li", { "data-from": "peer" }, make("b", {}, from), text);
  appendTo($("messages"), item, MAX_MESSAGES);
}

$("chat").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || !room) return;
  if (room.send(text) === 0) return; // keep the line: nobody got it
  say("me", text);
  $("text").value = "";
});

// ---- what the page says about it all

function refresh() {
  const peers = [...(room?.peers.values() ?? [])];
  const open = peers.filter((peer) => peer.channel.readyState === "open");
  $("tiles").dataset.remote = peers.length <= 4 ? peers.length : "many";
  $("waiting").hidden = !(room?.state === "joined" && peers.length === 0);
  $("text").disabled = $("send").disabled = open.length === 0;
  $("text").placeholder = open.length ? "Write a line" : peers.length ? "Connecting" : "Waiting for someone";
  const [tone, words] = statusOf(peers);
  $("status").dataset.tone = tone;
  if ($("status").textContent !== words) $("status").textContent = words; // said aloud only when it changes
  for (const peer of peers) showPath(peer);
}

function statusOf(peers) {
  if (!room) return ["calm", "Not in a room"];
  const connected = peers.filter((peer) => peer.pc.connectionState === "connected");
  const lost = peers.filter((peer) => ["failed", "disconnected"].includes(peer.pc.connectionState));
  const names = (list) => list.map(nameOf).join(", ");
  if (connected.length === 0 && room.state === "connecting") return ["busy", "Connecting to the server"];
  if (room.state === "waiting") {
    const call = connected.length ? `Connected to ${names(connected)}, but the` : "The";
    return ["bad", `${call} server is out of reach, trying again`];
  }
  if (lost.length) {
    const what = lost.some((peer) => peer.connectedMs !== null) ? "Lost the path" : "Found no path";
    return ["bad", `${what} to ${names(lost)}, trying again`];
  }
  if (connected.length && connected.length === peers.length) return ["good", `Connected to ${names(connected)}`];
  if (peers.length) return ["busy", `Looking for a path to ${names(peers.filter((p) => !connected.includes(p)))}`];
  return ["calm", `In room ${room.room}, waiting`];
}

// ---- the log

const ARROW = { sent: "→", received: "←", state: "●", trouble: "!" };

function note(kind, text) {
  const time = new Date().toISOString().slice(11, 23);
  log.push(`${time} ${ARROW[kind]} ${text}`);
  if (log.length > MAX_LOG) log.shift();
  appendTo($("log"), make("li", { "data-kind": kind }, make("time", {}, time),
    make("span", { "aria-hidden": "true" }, ARROW[kind]), make("span", { class: "what" }, text)), MAX_LOG);
}

/** A protocol message as one readable line. Credentials and SDP stay out of it. */
function inWords(message) {
  const who = (id) => nameOf(room?.peers.get(id)) + (id ? ` (${id})` : "");
  const servers = (ice) => (ice?.iceServers ?? []).flatMap((server) => server.urls).join(" ");
  switch (message.type) {
    case "welcome": return `welcome from ${message.server ?? "the server"}`;
    case "join": return `join room ${message.room}`;
    case "joined": return `joined as ${message.self}, ${message.peers.length} here before; servers: ${servers(message.ice)}`;
    case "peer": return `peer ${message.event}: ${message.name || "Guest"} (${message.peer})${roles(message.you)}`;
    case "ice": return message.ice ? `ice: ${servers(message.ice)}` : "ice";
    case "error": return `error ${message.code}: ${message.message}`;
    case "signal": {
      const way = message.to ? `signal to ${who(message.to)}` : `signal from ${who(message.from)}`;
      if (message.description) return `${way}: ${message.description.type}, ${message.description.sdp.length} bytes of SDP`;
      return `${way}: ${(message.candidates ?? []).map(candidateInWords).join("; ")}`;
    }
    default: return message.type;
  }
}

function roles(you) {
  return you ? `, we are ${you.polite ? "polite" : "impolite"} and ${you.offerer ? "offer" : "wait for the offer"}` : "";
}

function candidateInWords(candidate) {
  if (!candidate) return "end of candidates";
  const [, , protocol, , address, port, , type] = candidate.candidate.split(" ");
  return `${type} ${protocol?.toLowerCase()} ${address}:${port}`;
}

// ---- events of the page

for (const kind of ["video", "audio"]) {
  BUTTON[kind].addEventListener("click", () => (devices[kind] ? useTrack(kind, null) : startDevices(kind)));
}
$("lobby").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = roomFrom($("room").value);
  $("room").setAttribute("aria-invalid", String(!name));
  if (name) {
    enter(name);
  } else {
    notice("A room's name begins with a letter or digit and has up to 64 letters, digits, dots and dashes. A link to a room works too.");
    $("room").focus();
  }
});
$("leave").addEventListener("click", () => {
  exit();
  history.pushState(null, "", `/${location.search}`);
  $("room").focus();
});
$("copy").addEventListener("click", () => copy($("link").value, $("copy")));
$("copy-small").addEventListener("click", () => copy($("link").value, $("copy-small")));
$("copy-log").addEventListener("click", () => copy(log.join("\n"), $("copy-log")));
$("link").addEventListener("focus", () => $("link").select());
addEventListener("popstate", () => {
  if (room && roomInPath() !== room.room) exit();
  $("room").value = roomInPath() || $("room").value;
});
// The others learn at once that we are gone, also when the page is only reloaded.
addEventListener("pagehide", () => room?.leave());
addEventListener("pageshow", (event) => { if (event.persisted && room) enter(room.room, true); });

window.ternd = {
  get room() { return room; },
  async snapshot() {
    const peers = [...(room?.peers.values() ?? [])];
    return {
      state: room?.state ?? "idle", room: room?.room ?? null, self: room?.self ?? null,
      camera: Boolean(devices.video), microphone: Boolean(devices.audio), messages, log,
      peers: await Promise.all(peers.map(snapshotOf)),
    };
  },
};

async function snapshotOf(peer) {
  const tile = tiles.get(peer.id);
  const stats = await peer.pc.getStats();
  const inbound = [...stats.values()].find((s) => s.type === "inbound-rtp" && s.kind === "video");
  const { id, name, polite, offerer, connectedMs } = peer;
  const { signalingState, iceConnectionState, connectionState } = peer.pc;
  return {
    id, name, polite, offerer, connectedMs, signalingState, iceConnectionState, connectionState,
    channel: peer.channel.readyState, restarts: tile?.restarts ?? 0, path: await peer.path(),
    framesDecoded: inbound?.framesDecoded ?? 0, videoTime: tile?.video.currentTime ?? 0,
  };
}

async function begin() {
  const inPath = roomInPath();
  const before = JSON.parse(sessionStorage.getItem(MEMORY) ?? "null");
  const back = before && before.room === inPath ? before : null; // this page was reloaded
  $("room").value = inPath || suggestRoom();
  $("name").value = options.get("name") ?? back?.name ?? "";
  $("details").open = matchMedia("(min-width: 861px)").matches;
  if (!inPath || !(back || options.get("auto") === "1")) {
    sessionStorage.removeItem(MEMORY);
    return;
  }
  const media = back?.media ?? (options.get("media") ?? "video,audio").split(",").filter((kind) => kind in devices);
  enter(inPath, Boolean(back));
  if (media.length) await startDevices(...media); // the call need not wait for the camera
}

begin();
