// The parts of ternd.js that need no browser: `node --test tests/web/client.test.mjs`.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Room, RoomError, backoff, describePath, endpoints, join, rates } from "../../web/ternd.js";

const settle = () => new Promise((resolve) => { setTimeout(resolve, 5); });
const plain = (value) => JSON.parse(JSON.stringify(value));
let links = [];

/** A WebSocket whose other end is the test. */
class FakeSocket {
  readyState = 0;
  sent = [];

  constructor(url, protocol) {
    Object.assign(this, { url, protocol });
    links.push(this);
  }

  send(text) { this.sent.push(JSON.parse(text)); }

  close(code) { this.closedWith = code; }

  open() { this.readyState = 1; this.onopen?.(); }

  say(message) { this.onmessage?.({ data: JSON.stringify(message) }); }

  fail(code = 1006, reason = "") { this.readyState = 3; this.onclose?.({ code, reason }); }

  last(type) { return this.sent.findLast((message) => message.type === type); }
}

globalThis.WebSocket = FakeSocket;
beforeEach(() => { links = []; });

const OPTIONS = { url: "https://turn.example.org", room: "demo" };

function welcome(link, more = {}) {
  link.say({ type: "welcome", id: link.last("hello").id, session: "s_1", secret: "r_1", resumed: false, resume_ms: 60000, ping_ms: 20000, ...more });
}

async function joined(options = {}) {
  const promise = join({ ...OPTIONS, ...options });
  const [link] = links;
  link.open();
  welcome(link);
  await settle();
  link.say({ type: "joined", id: link.last("join").id, seq: 1, room: "demo", self: "p_1", peers: [], ice: { iceServers: [] } });
  return promise;
}

/** The next link, when it comes. */
async function nextLink(count, ms = 3000) {
  for (let waited = 0; links.length < count; waited += 5) {
    assert(waited < ms, "no new connection");
    await settle();
  }
  return links[count - 1];
}

test("addresses of a server", () => {
  const home = "https://turn.example.org/ternd.js";
  const expected = { ws: "wss://turn.example.org/v1/ws", events: "https://turn.example.org/v1/events", send: "https://turn.example.org/v1/send" };
  for (const url of [undefined, "https://turn.example.org", "wss://turn.example.org/v1/ws", "https://turn.example.org/?x#y"]) {
    assert.deepEqual(endpoints(url, home), expected);
  }
  assert.equal(endpoints("http://localhost:8080").ws, "ws://localhost:8080/v1/ws");
});

test("pauses grow, have an end, and are spread", () => {
  assert.deepEqual([0, 1, 2, 30].map((n) => backoff(n, 1)), [500, 1000, 2000, 10000]);
  assert.equal(backoff(0, 0), 250);
});

test("rates of two samples", () => {
  const zero = { at: 0, bytesReceived: 0, bytesSent: 0, packetsReceived: 0, packetsLost: 0, rttMs: 5 };
  const later = { at: 2000, bytesReceived: 250000, bytesSent: 25000, packetsReceived: 90, packetsLost: 10, rttMs: 7 };
  assert.deepEqual(rates(zero, later), { inKbps: 1000, outKbps: 100, loss: 0.1, rttMs: 7 });
  assert.equal(rates(zero, { ...zero, at: 1000 }).loss, null, "nothing was due");
  assert.equal(rates(later, { ...later, at: 4000, bytesReceived: 1000, packetsLost: 0 }).inKbps, 4, "a rebuilt connection");
  assert.equal(rates(zero, zero).inKbps, null);
});

test("the selected pair in words", () => {
  const report = (local, remote, pair = {}) => new Map([
    ["T", { type: "transport", selectedCandidatePairId: "P" }],
    ["P", { type: "candidate-pair", localCandidateId: "L", remoteCandidateId: "R", currentRoundTripTime: 0.0478, ...pair }],
    ["L", { type: "local-candidate", ...local }], ["R", { type: "remote-candidate", ...remote }],
  ]);
  const host = { candidateType: "host", protocol: "udp" };
  assert.equal(describePath(report(host, host)).words, "direct, UDP, 48 ms");
  assert.equal(describePath(report({ candidateType: "relay", relayProtocol: "tls" }, host)).words, "relayed over TLS, 48 ms");
  assert.equal(describePath(report(host, { candidateType: "relay" }, { currentRoundTripTime: 0 })).words, "relayed by the other side, UDP, under 1 ms");
  assert.equal(describePath(new Map()), null);
});

test("a lost connection is resumed: what the server has is not sent again, what it has not is", async () => {
  const room = await joined();
  const [first] = links;
  assert.equal(first.protocol, "ternd.v1");
  const posts = [1, 2, 3].map((n) => room.post({ n }));
  const lost = assert.rejects(posts[1], /answer to 'message' was lost/);
  const ids = first.sent.filter((m) => m.type === "message").map((m) => m.id);
  first.say({ type: "ok", id: ids[0] });
  first.say({ type: "value", seq: 2 });
  first.fail();
  assert.equal(room.state, "waiting");
  const late = room.post({ n: 4 }); // said while there is no connection
  const second = await nextLink(2);
  second.open();
  assert.deepEqual(second.last("hello").resume, { session: "s_1", secret: "r_1", seq: 2 });
  assert.equal(second.sent.length, 1, "nothing goes before the session is back");
  welcome(second, { resumed: true, last_id: ids[1] });
  await settle();
  assert.equal(room.state, "joined");
  assert.equal(second.last("join"), undefined);
  const again = second.sent.filter((m) => m.type === "message");
  assert.deepEqual(again.map((m) => m.data.n), [3, 4]);
  assert.equal(again[0].id, ids[2]);
  for (const { id } of again) second.say({ type: "ok", id });
  await Promise.all([posts[0], posts[2], late]);
  await lost;
  room.leave();
  assert.equal(second.closedWith, 1000);
});

test("a connection that has died without a word is noticed and resumed", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const turn = async () => { for (let i = 0; i < 20; i++) await null; };
  const promise = join(OPTIONS);
  links[0].open();
  welcome(links[0]);
  await turn();
  links[0].say({ type: "joined", id: links[0].last("join").id, seq: 1, room: "demo", self: "p_1", peers: [], ice: { iceServers: [] } });
  const room = await promise;
  const probes = () => links[0].sent.filter(({ type }) => type === "ready");
  // While there is something to be heard nothing is asked.
  t.mock.timers.tick(19000);
  links[0].say({ type: "value", seq: 2 });
  t.mock.timers.tick(2000);
  assert.equal(probes().length, 0);
  // All is quiet: asked once, and answered.
  t.mock.timers.tick(20000);
  assert.equal(probes().length, 1);
  links[0].say({ type: "ok", id: probes()[0].id });
  t.mock.timers.tick(10000);
  assert.equal(links.length, 1);
  // What is asked now gets no answer: it is a dead connection, and the request goes out over the next one.
  const post = room.post("x");
  t.mock.timers.tick(5900);
  assert.equal(links.length, 1);
  t.mock.timers.tick(200);
  assert.equal(links.length, 2);
  assert.equal(room.self, "p_1");
  links[1].open();
  assert.equal(links[1].last("hello").resume.session, "s_1");
  welcome(links[1], { resumed: true, last_id: null });
  await turn();
  const again = links[1].last("message");
  assert.equal(again.data, "x");
  links[1].say({ type: "ok", id: again.id });
  await post;
  room.leave();
});

test("joining can be given up", async () => {
  const controller = new AbortController();
  const promise = join({ ...OPTIONS, signal: controller.signal });
  const reason = new Error("enough");
  controller.abort(reason);
  await assert.rejects(promise, reason);
  assert.equal(links.length, 1);
  await assert.rejects(join({ ...OPTIONS, signal: AbortSignal.abort(reason) }), reason);
  assert.equal(links.length, 1);
  // Who is in the room stays in it.
  links = [];
  const later = new AbortController();
  const room = await joined({ signal: later.signal });
  later.abort();
  assert.equal(room.state, "joined");
  room.leave();
});

test("why there are no ICE servers is asked, and known then", async () => {
  const promise = join(OPTIONS);
  links[0].open();
  welcome(links[0]);
  await settle();
  links[0].say({ type: "joined", id: links[0].last("join").id, seq: 1, room: "demo", self: "p_1", peers: [], ice: null });
  const room = await promise;
  links[0].say({ type: "error", id: links[0].last("ice").id, code: "forbidden", message: "No credentials for you", retry_ms: null, fatal: false });
  await settle();
  assert.equal(room.iceRefused, "No credentials for you");
  room.leave();
});

test("without a server's address there is a word about it", () => {
  assert.throws(() => endpoints(undefined, "file:///bundle.js"), /needs `url`/);
});

test("events are taken once", async () => {
  const room = await joined();
  const heard = [];
  room.on("message", ({ data }) => heard.push(data));
  for (const seq of [2, 3, 3, 2, 4]) links[0].say({ type: "message", seq, from: "p_2", data: seq });
  assert.deepEqual(heard, [2, 3, 4]);
  room.leave();
});

test("a session that is over is begun anew", async () => {
  const room = await joined();
  const lost = room.post("lost");
  links[0].fail();
  const second = await nextLink(2);
  second.open();
  welcome(second, { session: "s_2", resumed: false });
  await assert.rejects(lost);
  await settle();
  second.say({ type: "joined", id: second.last("join").id, seq: 1, self: "p_9", peers: [] });
  await settle();
  assert.equal(room.self, "p_9");
  room.leave();
});

test("refusals reject, and what is final is not tried again", async () => {
  const refused = join({ ...OPTIONS, pin: "1" });
  links[0].open();
  welcome(links[0]);
  await settle();
  assert.deepEqual(plain(links[0].last("join")), { type: "join", room: "demo", create: "if-missing", pin: "1", id: 2 });
  links[0].say({ type: "error", id: 2, code: "bad_pin", message: "Wrong PIN", retry_ms: null, fatal: false });
  await assert.rejects(refused, (error) => error instanceof RoomError && error.code === "bad_pin");

  links = [];
  const room = await joined();
  const ends = [];
  room.on("refused", (error) => ends.push(error));
  links[0].say({ type: "error", code: "kicked", message: "A moderator put you out", retry_ms: null, fatal: true });
  links[0].fail(4006, "kicked");
  assert.deepEqual(ends.map((e) => [e.code, e.message]), [["kicked", "A moderator put you out"]]);
  await settle();
  assert.equal(room.state, "idle");
  assert.equal(links.length, 1);
});

test("shared values, moderators, history", async () => {
  const room = await joined();
  const [link] = links;
  link.say({ type: "state", seq: 2, from: "p_2", key: "topic", value: { text: "x" } });
  assert.deepEqual(room.values.get("topic"), { text: "x" });
  link.say({ type: "state", seq: 3, from: "p_2", key: "topic", value: null });
  assert.equal(room.values.size, 0);
  link.say({ type: "room", seq: 4, locked: true, moderators: ["p_1"], by: "p_1" });
  assert(room.locked && room.isModerator);
  room.leave();
});

test("another guess at the speed is no other network", async () => {
  const connection = Object.assign(new EventTarget(), { type: "wifi" });
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: { connection, onLine: true }, configurable: true });
  try {
    const room = await joined();
    const [link] = links;
    connection.dispatchEvent(new Event("change"));
    assert.equal(link.last("ready"), undefined);
    connection.type = "cellular";
    connection.dispatchEvent(new Event("change"));
    assert.equal(link.last("ready").type, "ready");
    room.leave();
  } finally {
    delete globalThis.navigator;
    if (before) Object.defineProperty(globalThis, "navigator", before);
  }
});

test("where no WebSocket opens, events and POSTs carry the same", async () => {
  const posted = [];
  let source = null;
  globalThis.EventSource = class extends EventTarget {
    constructor(url) { super(); this.url = url; source = this; }
    close() { this.closed = true; }
  };
  const before = globalThis.fetch;
  const posts = [];
  globalThis.fetch = async (url, { body, keepalive }) => {
    const bytes = Buffer.byteLength(body);
    posts.push({ bytes, keepalive });
    if (bytes > 131072) return { ok: false, status: 413 };
    posted.push(...JSON.parse(body).messages);
    return { ok: true, url };
  };
  const named = (name, data) => source.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data) }));
  try {
    const room = new Room(OPTIONS);
    const done = room.join();
    links[0].fail();
    const second = await nextLink(2);
    second.fail();
    for (let i = 0; i < 600 && !source; i++) await settle();
    assert.equal(source.url, "https://turn.example.org/v1/events");
    assert.equal(room.transport, "sse");
    named("open", { type: "open", connection: "c_1" });
    await settle();
    assert.equal(posted[0].type, "hello");
    source.onmessage({ data: JSON.stringify({ type: "welcome", id: posted[0].id, session: "s", secret: "r", resumed: false, resume_ms: 60000, ping_ms: 20000 }) });
    await settle();
    assert.equal(posted[1].type, "join");
    source.onmessage({ data: JSON.stringify({ type: "joined", id: posted[1].id, seq: 1, self: "p_1", peers: [] }) });
    await done;

    // Many at once go in as many posts as it takes; one that no post can hold is refused, and holds up no other.
    posts.length = 0;
    const texts = Array.from({ length: 5 }, (_, i) => String(i).repeat(25000));
    const sent = texts.map((text) => room.post(text).catch((error) => error.code));
    const tooLong = room.post("\u96e8".repeat(60000)).catch((error) => error.code);
    const last = room.post("last").catch((error) => error.code);
    for (let i = 0; i < 20; i++) await settle();
    assert.equal(await tooLong, "too_large");
    assert.deepEqual(posted.slice(-6).map(({ data }) => data), [...texts, "last"]);
    assert(posts.every(({ bytes, keepalive }) => keepalive === bytes < 64000), JSON.stringify(posts));
    for (const { id } of posted.slice(-6)) source.onmessage({ data: JSON.stringify({ type: "ok", id }) });
    await Promise.all([...sent, last]);
    assert.equal(source.closed, undefined);

    room.leave();
    await settle();
    assert.equal(posted.at(-1).type, "bye");
    assert(source.closed);
  } finally {
    globalThis.fetch = before;
  }
});
