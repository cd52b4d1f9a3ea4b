/**
 * The demo page: camera and microphone, a room of up to eight, video, chat, and what happens underneath.
 *
 * In: the address (`/r/ROOM`, and the options below), clicks, the events of ternd.js. Out: the page.
 *
 * Options in the address, for tests and for finding faults:
 *   ?auto=1         start the devices and join at once
 *   ?media=KINDS    which devices that starts: any of video,audio; none (default: video,audio)
 *   ?name=NAME      your name
 *   ?pin=PIN        the room's PIN
 *   ?lang=en|zh     the page's language
 *   ?policy=relay   relayed paths only
 *   ?servers=KINDS  keep only these of the servers offered: any of stun,udp,tcp,tls (the last three: TURN over ...)
 * An invite stands behind `#token=`: no server sees it.
 *
 * For tests: elements have stable ids, a peer's tile is `figure[data-peer=ID]`, and `window.ternd` is
 *   { room, snapshot() }: the Room or null, and a promise of plain data:
 *   { state, room, self, camera, microphone, messages: [{ from, text }], log: [line],
 *     peers: [{ id, name, polite, offerer, signalingState, iceConnectionState, connectionState, channel,
 *               connectedMs, restarts, path: { words, local, remote, rttMs } | null, framesDecoded, videoTime }] }
 */
import { Devices } from "./devices.js";
import { Plot } from "./plot.js";
import { Room, rates } from "./ternd.js";
import { hasWord, refusalInWords, startLanguage, t } from "./words.js";

const MAX_LOG = 1000;
const MAX_MESSAGES = 500;
const MAX_TEXT = 4000; // characters shown of one chat line
const CAPACITY = 8; // a mesh of more is too much for most uplinks
const SAMPLE_EVERY_MS = 1000;
const MEMORY = "ternd.call"; // sessionStorage: what to go back to after a reload

const $ = (id) => document.getElementById(id);
const options = new URLSearchParams(location.search);
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? undefined;

let room = null;
const tiles = new Map(); // peer id -> { figure, video, path, machines, restarts, before, and the parts of card() }
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

const nameOf = (peer) => peer?.name || t("guest");

/** Adds to a list that may be scrolled: stays at the end only if it was there. */
function appendTo(list, item, most) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  while (list.childElementCount > most) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

async function copy(text, button) {
  const label = button.querySelector("span") ?? button;
  try {
    await navigator.clipboard.writeText(text);
    label.textContent = t("copied");
    setTimeout(() => { label.textContent = t(label.dataset.t); }, 1500);
  } catch {
    notice(t("copyFailed", { link: text }));
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

/** The link to send. A moderator's invite leads in where a PIN is asked for, or where we came by an invite ourselves. */
async function inviteLink() {
  const link = linkTo(room.room);
  if (!(room.pin || token) || !room.isModerator) return link;
  return room.invite().then((invite) => `${link}#token=${invite}`, () => link);
}

// ---- camera, microphone, screen

const BUTTON = { video: $("camera"), audio: $("mic") };
const WORD = { video: ["cameraOn", "cameraStop"], audio: ["micOn", "micOff"] };

const devices = new Devices({
  changed(kind) {
    const track = devices.tracks[kind];
    if (kind === "video") {
      for (const old of picture.getTracks()) picture.removeTrack(old);
      if (track) picture.addTrack(track);
      $("local-video").srcObject = track ? picture : null;
      $("local").dataset.video = track ? "on" : "off";
      $("local").dataset.screen = Boolean(devices.screen);
    }
    label(BUTTON[kind], devices.has(kind), WORD[kind]);
    label($("screen"), Boolean(devices.screen), ["screenOn", "screenOff"]);
    room?.setTrack(kind, track);
    remember();
  },
  complain(text) {
    if (text) notice(text, "device");
    else if ($("notice").dataset.about === "device") notice("");
  },
});

function label(button, on, [whenOff, whenOn]) {
  button.dataset.on = on;
  const span = button.querySelector("span");
  span.dataset.t = on ? whenOn : whenOff;
  span.textContent = t(span.dataset.t);
}

async function startDevices(...kinds) {
  for (const kind of kinds) BUTTON[kind].disabled = true;
  await devices.start(...kinds);
  for (const kind of kinds) BUTTON[kind].disabled = false;
}

async function showDevices() {
  await fillDevices();
  $("device-dialog").showModal();
}

async function fillDevices() {
  const lists = await devices.list();
  for (const [which, list] of Object.entries(lists)) {
    const select = $(`choose-${which}`);
    select.replaceChildren(...list.map(({ id, label: text }) => make("option", { value: id }, text)));
    select.value = devices.chosen[which] ?? list[0]?.id ?? "";
    select.disabled = list.length === 0 || (which === "speaker" && !("setSinkId" in HTMLMediaElement.prototype));
  }
}

function useSpeaker(video) {
  if (devices.chosen.speaker) video.setSinkId?.(devices.chosen.speaker).catch(() => {});
}

// ---- in and out of a room

function enter(name, returning = false) {
  room?.leave();
  const typed = (id) => $(id).value.trim() || undefined;
  room = new Room({ room: name, name: typed("name"), pin: typed("pin"), token, capacity: CAPACITY, configure, returning });
  watchRoom(room);
  for (const kind of ["video", "audio"]) if (devices.tracks[kind]) room.setTrack(kind, devices.tracks[kind]);
  if (roomInPath() !== name) history.pushState(null, "", `/r/${encodeURIComponent(name)}${location.search}`);
  document.title = `${name}: ternd`;
  $("room-title").textContent = name;
  $("link").value = linkTo(name);
  notice("");
  $("details").open ||= matchMedia("(min-width: 861px)").matches;
  show("call");
  remember();
  room.join().catch(() => {}); // told by the event 'refused'
}

function exit() {
  const old = room;
  room = null;
  devices.unshare();
  sessionStorage.removeItem(MEMORY);
  old?.leave();
  show("lobby");
  refresh();
}

function remember() {
  if (!room) return;
  const media = ["video", "audio"].filter((kind) => devices.has(kind));
  sessionStorage.setItem(MEMORY, JSON.stringify({ room: room.room, name: $("name").value, pin: $("pin").value, media }));
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
  it.on("resumed", () => { note("state", "session resumed, nothing is missing"); refresh(); });
  it.on("sent", (message) => note("sent", inWords(message)));
  it.on("received", (message) => note("received", inWords(message)));
  it.on("retry", (ms) => note("state", `next attempt in ${(ms / 1000).toFixed(1)} s`));
  it.on("peer", (peer) => { addTile(peer); say("page", t("cameIn", { name: nameOf(peer) })); refresh(); });
  it.on("left", (peer) => {
    removeTile(peer);
    say("page", t(peer.reason === "kicked" ? "kicked" : "left", { name: nameOf(peer) }));
    refresh();
  });
  it.on("presence", refresh);
  it.on("room", refresh);
  it.on("draining", () => notice(t("draining")));
  it.on("refused", (error) => {
    note("trouble", `${error.code}: ${error.message}`);
    if (it !== room) return;
    const pinAsked = error.code === "bad_pin";
    exit();
    notice(refusal(error, it.room));
    if (pinAsked) $("pin").focus();
  });
}

function refusal({ code, message }, name) {
  let key = code;
  if (code === "bad_pin" && !$("pin").value.trim()) key = "needPin";
  if (code === "kicked") key = "errKicked";
  return hasWord(key) ? t(key, { room: name }) : t("refused", { message });
}

// ---- the others

function addTile(peer) {
  const path = make("span", { class: "path" });
  const silent = make("span", { class: "path silent", hidden: "" });
  const video = make("video", { autoplay: "", playsinline: "" });
  const figure = make("figure", { class: "tile", "data-peer": peer.id, "data-video": "off", "data-audio": "off" },
    video, document.querySelector("#local .face").cloneNode(true),
    make("figcaption", {}, make("span", { class: "who" }, nameOf(peer)), silent, path));
  figure.querySelector(".in-lobby").remove();
  const machines = make("li", { "data-peer": peer.id });
  const tile = { figure, video, path, silent, machines, restarts: 0, before: null, ...card(peer) };
  tiles.set(peer.id, tile);
  useSpeaker(video);
  $("tiles").insertBefore(figure, $("local"));
  $("machines").append(machines);
  $("people").append(tile.card);

  peer.on("stream", (stream) => showStream(tile, stream));
  peer.on("message", (text) => say(nameOf(peer), String(text).slice(0, MAX_TEXT)));
  peer.on("trouble", (error) => note("trouble", `${nameOf(peer)}: ${error.message}`));
  peer.on("failed", refresh);
  peer.on("restart", (count) => { tile.restarts++; note("state", `${nameOf(peer)}: ICE restart ${count}`); refresh(); });
  peer.on("rebuild", (gen) => note("trouble", `${nameOf(peer)}: connection ${gen}, made from scratch`));
  peer.on("state", ({ machine, state }) => {
    note("state", `${nameOf(peer)}: ${machine} ${state}`);
    if (machine === "connectionState") showPath(peer);
    refresh();
  });
  showPath(peer);
}

/** The panel of one peer: who it is, the path, and plots of what goes over it. */
function card(peer) {
  const plots = {
    rttMs: new Plot(milliseconds, 50),
    inKbps: new Plot(kbps, 100),
    outKbps: new Plot(kbps, 100),
    loss: new Plot((share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`, 0.05),
  };
  const who = make("h3", {}, nameOf(peer));
  const tag = make("span", { class: "help" });
  const way = make("p", { class: "help way" });
  const why = make("p", { class: "why", hidden: "" });
  const kick = make("button", { type: "button", class: "small", hidden: "" });
  kick.addEventListener("click", () => {
    if (confirm(t("kickSure", { name: nameOf(peer) }))) room?.kick(peer).catch((error) => notice(error.message));
  });
  const element = make("li", { "data-peer": peer.id }, make("div", { class: "head" }, who, tag, kick), way, why,
    make("div", { class: "plots" }, ...Object.values(plots).map((plot) => plot.element)));
  return { card: element, plots, tag, way, why, kick };
}

const milliseconds = (ms) => (ms < 1 ? "< 1 ms" : `${Math.round(ms)} ms`);
const kbps = (value) => (value >= 1000 ? `${(value / 1000).toFixed(1)} Mbit/s` : `${Math.round(value)} kbit/s`);
const PLOT_NAMES = { rttMs: "rtt", inKbps: "incoming", outKbps: "outgoing", loss: "loss" };

function removeTile(peer) {
  const tile = tiles.get(peer.id);
  tiles.delete(peer.id);
  tile?.video.pause();
  for (const part of ["figure", "machines", "card"]) tile?.[part].remove();
}

function showStream(tile, stream) {
  const { video, figure } = tile;
  video.srcObject ??= stream;
  figure.dataset.video = stream.getVideoTracks().length ? "on" : "off";
  figure.dataset.audio = stream.getAudioTracks().length ? "on" : "off";
  if (!stream.getTracks().length) return;
  video.play().catch((error) => {
    if (error.name !== "NotAllowedError" || figure.querySelector(".unmute")) return;
    // Sound needs a touch first. The picture need not wait for it.
    video.muted = true;
    video.play().catch(() => {});
    const button = make("button", { type: "button", class: "unmute primary" }, t("soundOn"));
    button.onclick = () => { video.muted = false; button.remove(); };
    figure.append(button);
  });
}

async function showPath(peer) {
  const tile = tiles.get(peer.id);
  if (!tile) return;
  const connected = peer.pc.connectionState === "connected";
  const path = connected ? await peer.path().catch(() => null) : null;
  tile.path.textContent = path ? pathInWords(path) : t(peer.failed ? "state_failed" : `state_${peer.pc.connectionState}`);
  tile.silent.hidden = !(connected && tile.figure.dataset.audio === "off");
  tile.figure.dataset.state = peer.failed ? "failed" : peer.pc.connectionState;
  tile.way.textContent = `${t("path")}: ${path ? `${candidate(path.local)} → ${candidate(path.remote)}` : t("none")}`;
  const tone = (state) => ({ connected: "good", completed: "good", failed: "bad", disconnected: "bad" })[state] ?? "";
  const rows = ["signalingState", "iceConnectionState", "connectionState"].map((machine) => [machine, peer.pc[machine]]);
  rows.push(["data channel", peer.channel.readyState], ["path", path?.words ?? "none yet"]);
  tile.machines.replaceChildren(make("h3", {}, nameOf(peer)), make("dl", {}, ...rows.map(([term, value]) =>
    make("div", {}, make("dt", {}, term), make("dd", { "data-tone": tone(value) }, value)))));
}

function pathInWords({ local, relay, rttMs }) {
  const transport = (relay && relay !== "theirs" ? relay : local.protocol ?? "udp").toUpperCase();
  const way = t(relay === "theirs" ? "pathTheirs" : relay ? "pathRelay" : "pathDirect", { transport });
  return rttMs === null ? way : `${way}, ${milliseconds(rttMs)}`;
}

/** A candidate as the pair's half: its type and address. Browsers keep some addresses to themselves. */
function candidate({ candidateType, address, port, protocol }) {
  const host = address?.includes(":") && !address.startsWith("[") ? `[${address}]` : address || "…";
  return `${candidateType} ${protocol} ${host}:${port}`;
}

/** Why there is no path, as far as this side and its server know. */
function whyNoPath(peer) {
  const errors = peer.errors.filter(({ url }) => /^turns?:/.test(url));
  const relays = room.ice.iceServers.flatMap(({ urls }) => [urls].flat()).filter((url) => /^turns?:/.test(url));
  const refused = errors.find(({ code }) => code >= 300 && code < 700);
  let why;
  if (relays.length === 0) why = t("why_none", { message: room.iceRefused ?? "-" });
  else if (peer.relayed) why = t("why_peer");
  else if (refused) why = t("why_refused", { why: refusalInWords(refused.code, refused.text) });
  else why = t("why_unreachable", { url: errors[0]?.url ?? relays[0] });
  return `${t("failed", { name: nameOf(peer) })} ${why}`;
}

async function sample() {
  if ([...(room?.peers.values() ?? [])].some((peer) => peer.failed)) refresh(); // the reason may be another one now
  for (const peer of [...(room?.peers.values() ?? [])]) {
    const tile = tiles.get(peer.id);
    if (!tile) continue;
    showPath(peer);
    const now = await peer.totals().catch(() => null);
    if (!now) continue;
    const since = tile.before ? rates(tile.before, now) : {};
    tile.before = now;
    for (const [key, plot] of Object.entries(tile.plots)) plot.add(since[key] ?? null);
  }
}
setInterval(sample, SAMPLE_EVERY_MS);

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
  $("nobody").hidden = peers.length > 0;
  $("text").disabled = $("send").disabled = open.length === 0;
  $("text").placeholder = t(open.length ? "writeLine" : peers.length ? "connecting" : "waitingSomeone");
  $("lock").hidden = !room?.isModerator;
  label($("lock"), Boolean(room?.locked), ["lock", "unlock"]);
  if (!room) document.title = t("title");
  const [tone, words] = statusOf(peers);
  $("status").dataset.tone = tone;
  if ($("status").textContent !== words) $("status").textContent = words; // said aloud only when it changes
  for (const peer of peers) {
    showPath(peer);
    const tile = tiles.get(peer.id);
    if (!tile) continue;
    tile.tag.textContent = peer.away ? t("away") : room.moderators.includes(peer.id) ? t("moderator") : "";
    tile.kick.hidden = !room.isModerator;
    tile.kick.textContent = t("kick");
    tile.silent.textContent = t("silent");
    tile.video.setAttribute("aria-label", t("videoOf", { name: nameOf(peer) }));
    tile.why.hidden = !peer.failed;
    if (peer.failed) tile.why.replaceChildren(whyNoPath(peer), make("a", { href: "/diagnostics", target: "_blank" }, t("diagnose")));
    for (const [key, plot] of Object.entries(tile.plots)) plot.name = t(PLOT_NAMES[key]);
  }
}

function statusOf(peers) {
  if (!room) return ["calm", t("notInRoom")];
  const connected = peers.filter((peer) => peer.pc.connectionState === "connected");
  const lost = peers.filter((peer) => peer.failed || peer.pc.connectionState === "disconnected");
  const names = (list) => (list.length > 3 ? t("peopleN", { n: list.length }) : list.map(nameOf).join(", "));
  if (connected.length === 0 && room.state === "connecting") return ["busy", t("connectingServer")];
  if (room.state === "waiting") return ["bad", connected.length ? t("serverLostCall", { names: names(connected) }) : t("serverLost")];
  if (lost.length) {
    return ["bad", t(lost.some((peer) => peer.connectedMs !== null) ? "lostPath" : "noPath", { names: names(lost) })];
  }
  if (connected.length && connected.length === peers.length) return ["good", t("connectedTo", { names: names(connected) })];
  if (peers.length) return ["busy", t("looking", { names: names(peers.filter((p) => !connected.includes(p))) })];
  return ["calm", t("waitingIn", { room: room.room })];
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
      const way = message.from ? `signal from ${who(message.from)}` : `signal to ${who(message.to)}`;
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
  BUTTON[kind].addEventListener("click", () => (devices.has(kind) ? devices.stop(kind) : startDevices(kind)));
}
$("screen").hidden = !navigator.mediaDevices?.getDisplayMedia; // phones can't
$("screen").addEventListener("click", () => (devices.screen ? devices.unshare() : devices.share()));
$("devices").addEventListener("click", showDevices);
for (const which of ["camera", "mic", "speaker"]) {
  $(`choose-${which}`).addEventListener("change", async ({ target }) => {
    await devices.choose(which, target.value);
    if (which === "speaker") for (const { video } of tiles.values()) useSpeaker(video);
  });
}
navigator.mediaDevices?.addEventListener("devicechange", () => { if ($("device-dialog").open) fillDevices(); });
$("lock").addEventListener("click", () => room?.lock(!room.locked).catch((error) => notice(error.message)));
$("lobby").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = roomFrom($("room").value);
  $("room").setAttribute("aria-invalid", String(!name));
  if (name) {
    enter(name);
    $("room-title").focus(); // what had the focus is gone
  } else {
    notice(t("badRoom"));
    $("room").focus();
  }
});
$("leave").addEventListener("click", () => {
  exit();
  history.pushState(null, "", `/${location.search}`);
  $("room").focus();
});
for (const id of ["copy", "copy-small"]) $(id).addEventListener("click", async () => copy(await inviteLink(), $(id)));
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
      camera: devices.has("video"), microphone: devices.has("audio"), messages, log,
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
  $("pin").value = options.get("pin") ?? back?.pin ?? "";
  if (!inPath || !(back || options.get("auto") === "1")) {
    sessionStorage.removeItem(MEMORY);
    return;
  }
  const media = back?.media ?? (options.get("media") ?? "video,audio").split(",").filter((kind) => kind in BUTTON);
  enter(inPath, Boolean(back));
  if (media.length) await startDevices(...media); // the call need not wait for the camera
}

startLanguage($("language"), refresh);
begin();
