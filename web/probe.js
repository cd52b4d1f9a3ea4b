/**
 * What a browser can find out of its way to a STUN and TURN server.
 *
 * In: the `iceServers` of the server. Out: plain data: which URL is reached over which family, how the NAT maps, and
 * how a call between two ends in this page fares that is relayed there and back. Nothing goes anywhere but to the
 * server of the URLs.
 */

import { describePath } from "./ternd.js";

const GATHER_MS = 8000;
const MEET_MS = 4000;
const CALL_MS = 15000;
const PINGS = 20;
const PACKETS = 150; // of 1,000 bytes, 50 per second: as a call's
const FLOOD_MS = 3000;
const FLOOD_BYTES = 32e6; // somebody pays for them

// ---- pure

/** Each URL by itself: [{ url, role: "stun" | "turn", transport: "udp" | "tcp" | "tls", server }]. */
export function urlsOf(iceServers) {
  return iceServers.flatMap((server) => [server.urls].flat().map((url) => {
    const role = /^turns?:/.test(url) ? "turn" : "stun";
    const transport = /^(turns|stuns):/.test(url) ? "tls" : /[?&]transport=tcp/.test(url) ? "tcp" : "udp";
    return { url, role, transport, server: { ...server, urls: [url] } };
  }));
}

/** Of an address, also a masked one ("0.0.0.x", "[0:0:0:x:x:x:x:x]"); null for a name. */
export function familyOf(address) {
  if (!address) return null;
  if (address.includes(":")) return "ipv6";
  return /^[\dx]+(\.[\dx]+){3}$/.test(address) ? "ipv4" : null;
}

/**
 * What gathering with one URL says of one family: { verdict, ms?, code?, why? }, where the verdict is "reachable", "refused"
 * (the server said `code`), "unreachable", "untried" (this browser took the other family), or "none": the URL has an
 * address of the other family only.
 */
export function judge({ url, role, candidates, errors }, family) {
  const host = url.replace(/^\w+:/, "").replace(/\?.*$/, "");
  const literal = host.startsWith("[") ? "ipv6" : familyOf(host.replace(/:\d+$/, ""));
  if (literal && literal !== family) return { verdict: "none" };
  const wanted = role === "turn" ? "relay" : "srflx";
  const got = candidates.filter((c) => c.type === wanted);
  const ours = errors.filter((e) => e.via === family || e.via === null);
  // Where the family can't be told, one candidate is taken for IPv4, two for both.
  const unsure = ours.length === 0 ? got.filter((c) => c.via === null)[family === "ipv4" ? 0 : 1] : undefined;
  const found = got.find((c) => c.via === family) ?? unsure;
  if (found) return { verdict: "reachable", ms: found.ms };
  const refusal = ours.find((e) => e.code >= 300 && e.code < 700);
  if (refusal) return { verdict: "refused", code: refusal.code, why: refusal.text };
  // Chromium connects by name once, over one family, and leaves the other.
  if (errors.some((e) => /not associated/.test(e.text))) return { verdict: "untried" };
  const why = ours.map((e) => e.text).find(Boolean);
  return why ? { verdict: "unreachable", why } : { verdict: "unreachable" };
}

/**
 * The kind of NAT, from addresses of this machine, what servers see instead, and what a relayed address of the server
 * saw, which is another destination ("same", "other", or null: it saw nothing):
 * "none", "independent" (one mapping for all), "dependent" (symmetric: another for each), "some" (it can't be said which),
 * "unknown" (UDP does not get through).
 */
export function natKind(hosts, mappings, relayed = null) {
  if (mappings.length === 0) return "unknown";
  const at = ({ address, port }) => `${address} ${port}`;
  if (mappings.every((m) => hosts.some((h) => at(h) === at(m)))) return "none";
  // A socket of each family and interface has mappings of its own.
  const sockets = [...new Set(mappings.map(({ from }) => from))].map((port) => mappings.filter(({ from }) => from === port));
  const several = sockets.filter((group) => new Set(group.map(({ url }) => url)).size > 1);
  if (relayed === "other" || several.some((group) => new Set(group.map(at)).size > 1)) return "dependent";
  return relayed === "same" || several.length > 0 ? "independent" : "some";
}

/** Mean, and the mean step from one to the next. */
export function spread(values) {
  if (values.length === 0) return { mean: null, jitter: null };
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const steps = values.slice(1).map((value, i) => Math.abs(value - values[i]));
  return { mean, jitter: steps.length ? steps.reduce((a, b) => a + b, 0) / steps.length : 0 };
}

/** A result as part of a link, and back. */
export async function pack(result) {
  const stream = new Blob([JSON.stringify(result)]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

const MOST = 256 * 1024; // bytes of a result that a link can unfold to

export async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const parts = [];
  for (let size = 0; ;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > MOST) throw new Error("too large");
    parts.push(value);
  }
  return JSON.parse(await new Blob(parts).text());
}

// ---- probes

/** The family over which a candidate was had, or null: { address, relatedAddress, priority }, and those of type host. */
export function viaOf({ type, address, relatedAddress, priority }, hosts) {
  if (type === "host") return familyOf(address);
  if (relatedAddress && relatedAddress !== address) return familyOf(relatedAddress);
  if (type === "srflx") return familyOf(address);
  // Firefox says nothing else of relays. But candidates of one interface have a preference in common (RFC 8445 section 5.1.2).
  const preference = (value) => (value >>> 16) & 0xff;
  return familyOf(hosts.find((host) => preference(host.priority) === preference(priority))?.address);
}

/** Gathers candidates with one URL: { url, role, transport, candidates, errors }. */
export async function gather({ url, role, transport, server }) {
  // Not relays only: browsers would hide, then, what tells how the server was reached.
  const pc = new RTCPeerConnection({ iceServers: [server] });
  const begin = performance.now();
  const hosts = [];
  const found = { url, role, transport, candidates: [], errors: [] };
  try {
    pc.createDataChannel("probe");
    await new Promise((resolve, reject) => {
      setTimeout(resolve, GATHER_MS);
      pc.onicecandidate = ({ candidate }) => {
        if (!candidate) return resolve();
        if (!candidate.candidate) return undefined;
        const { type, protocol, address, port } = candidate;
        if (type === "host" && protocol === "udp") hosts.push(candidate);
        const ms = Math.round(performance.now() - begin);
        found.candidates.push({ type, protocol, address, port, via: viaOf(candidate, hosts), ms });
        return undefined;
      };
      pc.onicecandidateerror = ({ errorCode, errorText, address }) => {
        found.errors.push({ code: errorCode, text: errorText, via: familyOf(address) });
      };
      pc.onicegatheringstatechange = () => pc.iceGatheringState === "complete" && resolve();
      pc.setLocalDescription().catch(reject);
    });
  } finally {
    pc.close();
  }
  return found;
}

/**
 * Mappings of one socket, as all STUN servers see it, and as a relayed address sees it:
 * { hosts, mappings: [{ address, port, from, url }], relayed: "same" | "other" | null }.
 */
export async function mappings(urls) {
  const servers = (wanted) => urls.filter(({ role, transport }) => role === wanted && transport === "udp").map(({ server }) => server);
  const near = new RTCPeerConnection({ iceServers: servers("stun") });
  const far = new RTCPeerConnection({ iceServers: servers("turn"), iceTransportPolicy: "relay" });
  try {
    near.createDataChannel("probe");
    const [mine, theirs] = [candidatesOf(near), candidatesOf(far)];
    const offer = await near.createOffer(); // has no candidates
    await near.setLocalDescription(offer);
    await far.setRemoteDescription(offer);
    await far.setLocalDescription();
    const found = await mine;
    const hosts = found.filter(({ type, protocol }) => type === "host" && protocol === "udp").map(({ address, port }) => ({ address, port }));
    const seen = found.filter(({ type }) => type === "srflx");
    const all = seen.map(({ address, port, relatedPort, url }) => ({ address, port, from: relatedPort, url: url ?? "" }));
    return { hosts, mappings: all, relayed: seen.length ? await seenByRelay(near, far, seen, await theirs) : null };
  } finally {
    near.close();
    far.close();
  }
}

/** All candidates of a connection that is about to gather. */
function candidatesOf(pc) {
  const found = [];
  return new Promise((resolve) => {
    setTimeout(() => resolve(found), GATHER_MS);
    pc.onicecandidate = ({ candidate }) => (candidate ? candidate.candidate && found.push(candidate) : resolve(found));
  });
}

/** Lets `near` come to a relayed address, which knows it by its mappings alone: is it one of those that comes? */
async function seenByRelay(near, far, seen, relayed) {
  if (relayed.length === 0) return null;
  try {
    for (const candidate of seen) await far.addIceCandidate(candidate);
    await near.setRemoteDescription(far.localDescription);
    for (const candidate of relayed) await near.addIceCandidate(candidate);
    await until(() => far.iceConnectionState === "connected" || far.iceConnectionState === "completed", MEET_MS, () => "nothing came");
    const { remote } = describePath(await far.getStats());
    return seen.some(({ port }) => port === remote.port) ? "same" : "other";
  } catch {
    return null;
  }
}

/** A call with both ends here, relayed there and back: { rttMs, jitterMs, loss, mbps, relay: "udp" | "tcp" | "tls" }. */
export async function loopback(servers, step = () => {}) {
  const config = { iceServers: servers, iceTransportPolicy: "relay" };
  const [a, b] = [new RTCPeerConnection(config), new RTCPeerConnection(config)];
  const refusals = new Set();
  try {
    for (const [from, to] of [[a, b], [b, a]]) {
      from.onicecandidate = ({ candidate }) => { if (candidate) to.addIceCandidate(candidate).catch(() => {}); };
      from.onicecandidateerror = ({ errorCode, url }) => { if (errorCode < 700) refusals.add(`${errorCode} (${url})`); };
    }
    const steady = a.createDataChannel("steady", { ordered: false, maxRetransmits: 0 });
    const flood = a.createDataChannel("flood");
    const theirs = new Map();
    b.ondatachannel = ({ channel }) => theirs.set(channel.label, channel);
    await a.setLocalDescription();
    await b.setRemoteDescription(a.localDescription);
    await b.setLocalDescription();
    await a.setRemoteDescription(b.localDescription);
    await until(() => theirs.size === 2 && steady.readyState === "open" && flood.readyState === "open", CALL_MS,
      () => [...refusals].join(", ") || `ICE ${a.iceConnectionState}`);

    step("rtt");
    const far = theirs.get("steady");
    far.onmessage = ({ data }) => { if (typeof data === "string") far.send(data); };
    const times = [];
    steady.onmessage = ({ data }) => times.push(performance.now() - Number(data));
    for (let i = 0; i < PINGS; i++) {
      steady.send(String(performance.now()));
      await pause(50);
    }
    await pause(300);
    const { mean, jitter } = spread(times);

    step("loss");
    let arrived = 0;
    far.onmessage = () => { arrived++; };
    for (let i = 0; i < PACKETS; i++) {
      steady.send(new Uint8Array(1000));
      await pause(20);
    }
    await pause(500);

    step("throughput");
    let bytes = 0;
    theirs.get("flood").onmessage = ({ data }) => { bytes += data.byteLength ?? data.size; };
    const begin = performance.now();
    while (performance.now() - begin < FLOOD_MS && bytes < FLOOD_BYTES && flood.readyState === "open") {
      if (flood.bufferedAmount < 1 << 20) flood.send(new Uint8Array(16384));
      else await pause(5);
    }
    const mbps = (bytes * 8) / 1e6 / ((performance.now() - begin) / 1000);
    const { relay } = describePath(await a.getStats()) ?? {};
    return { rttMs: mean, jitterMs: jitter, loss: 1 - arrived / PACKETS, mbps, relay: relay ?? null };
  } finally {
    a.close();
    b.close();
  }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function until(test, ms, why) {
  for (const end = performance.now() + ms; !test();) {
    if (performance.now() > end) throw new Error(why());
    await pause(50);
  }
}
