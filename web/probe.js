/**
 * What a browser can find out of its way to a STUN and TURN server.
 *
 * In: the `iceServers` of the server. Out: plain data: which URL is reached over which family, how the NAT maps, and
 * how a call between two ends in this page fares that is relayed there and back. Nothing goes anywhere but to the
 * server of the URLs.
 */

const GATHER_MS = 8000;
const CALL_MS = 15000;
const PINGS = 20;
const PACKETS = 150; // of 1,000 bytes, 50 per second: as a call's
const FLOOD_MS = 3000;

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
 * What gathering with one URL says of one family: { verdict, ms?, why? }, where the verdict is "reachable", "refused",
 * "unreachable", or "none": the URL has an address of the other family.
 */
export function judge({ url, role, candidates, errors }, family) {
  const host = url.replace(/^\w+:/, "").replace(/\?.*$/, "");
  const literal = host.startsWith("[") ? "ipv6" : familyOf(host.replace(/:\d+$/, ""));
  if (literal && literal !== family) return { verdict: "none" };
  const wanted = role === "turn" ? "relay" : "srflx";
  const found = candidates.find((c) => c.type === wanted && c.via === family);
  if (found) return { verdict: "reachable", ms: found.ms };
  // No NAT: what STUN would say is the address that there is, and browsers don't say it twice.
  const error = errors.filter((e) => e.via === family || e.via === null).find((e) => e.code !== 701);
  if (error) return { verdict: "refused", why: `${error.code} ${error.text}`.trim() };
  return { verdict: "unreachable" };
}

/**
 * The kind of NAT, from addresses of this machine and what servers see instead:
 * "none", "independent" (one mapping for all), "dependent" (symmetric: another for each), "some" (it can't be said which),
 * "unknown" (UDP does not get through).
 */
export function natKind(hosts, mappings) {
  if (mappings.length === 0) return "unknown";
  const at = ({ address, port }) => `${address} ${port}`;
  if (mappings.every((m) => hosts.some((h) => at(h) === at(m)))) return "none";
  const servers = new Set(mappings.map((m) => m.url));
  if (servers.size < 2) return "some";
  return new Set(mappings.map(at)).size > 1 ? "dependent" : "independent";
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

/** Gathers candidates with one URL: { url, role, transport, candidates, errors }. */
export async function gather({ url, role, transport, server }) {
  const pc = new RTCPeerConnection({ iceServers: [server], iceTransportPolicy: role === "turn" ? "relay" : "all" });
  const begin = performance.now();
  const found = { url, role, transport, candidates: [], errors: [] };
  try {
    pc.createDataChannel("probe");
    await new Promise((resolve, reject) => {
      setTimeout(resolve, GATHER_MS);
      pc.onicecandidate = ({ candidate }) => {
        if (!candidate) return resolve();
        if (!candidate.candidate) return undefined;
        const { type, protocol, address, port, relatedAddress } = candidate;
        const ms = Math.round(performance.now() - begin);
        // How the server was reached: by the address that it saw, or that it was asked from.
        const via = familyOf(relatedAddress) ?? familyOf(address);
        found.candidates.push({ type, protocol, address, port, via, ms });
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

/** Mappings of one socket as all STUN servers see it: { hosts, mappings: [{ address, port, url }] }. */
export async function mappings(urls) {
  const servers = urls.filter(({ role, transport }) => role === "stun" && transport === "udp").map(({ server }) => server);
  const pc = new RTCPeerConnection({ iceServers: servers });
  const hosts = [];
  const seen = [];
  try {
    pc.createDataChannel("probe");
    await new Promise((resolve, reject) => {
      setTimeout(resolve, GATHER_MS);
      pc.onicecandidate = ({ candidate }) => {
        if (!candidate) return resolve();
        const { type, address, port, protocol, relatedPort, url } = candidate;
        if (type === "host" && protocol === "udp") hosts.push({ address, port });
        if (type === "srflx") seen.push({ address, port, from: relatedPort, url: url ?? "" });
        return undefined;
      };
      pc.setLocalDescription().catch(reject);
    });
  } finally {
    pc.close();
  }
  return { hosts, mappings: seen };
}

/** A call with both ends here, relayed there and back: { rttMs, jitterMs, loss, mbps, path }. */
export async function loopback(servers, step = () => {}) {
  const config = { iceServers: servers, iceTransportPolicy: "relay" };
  const [a, b] = [new RTCPeerConnection(config), new RTCPeerConnection(config)];
  try {
    for (const [from, to] of [[a, b], [b, a]]) {
      from.onicecandidate = ({ candidate }) => { if (candidate) to.addIceCandidate(candidate).catch(() => {}); };
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
      () => `no relayed connection: ${a.connectionState}`);

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
    while (performance.now() - begin < FLOOD_MS && flood.readyState === "open") {
      if (flood.bufferedAmount < 1 << 20) flood.send(new Uint8Array(16384));
      else await pause(5);
    }
    const mbps = (bytes * 8) / 1e6 / ((performance.now() - begin) / 1000);
    return { rttMs: mean, jitterMs: jitter, loss: 1 - arrived / PACKETS, mbps };
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
