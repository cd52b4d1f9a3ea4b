// When a Peer restarts ICE, and what it says of it: with a fake RTCPeerConnection and a fake clock.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

class FakeConnection {
  connectionState = "new";
  iceConnectionState = "new";
  signalingState = "stable";
  remoteDescription = { type: "answer" };
  currentRemoteDescription = null;
  restarts = 0;
  bytes = 0;
  onnegotiationneeded = null;

  createDataChannel() { return { readyState: "connecting" }; }

  addTransceiver(kind) { return { receiver: { track: { kind, muted: true } }, sender: { replaceTrack: async () => {} } }; }

  async getStats() { return new Map([["T", { type: "transport", bytesReceived: this.bytes }]]); }

  setConfiguration(config) { this.config = config; }

  restartIce() { this.restarts++; }

  close() { this.signalingState = "closed"; }

  become(ice, connection = ice) {
    this.iceConnectionState = ice;
    this.oniceconnectionstatechange?.();
    this.connectionState = connection;
    this.onconnectionstatechange?.();
  }
}

globalThis.RTCPeerConnection = FakeConnection;
globalThis.MediaStream = class { getTracks() { return []; } };
const { Peer } = await import("../../web/ternd.js");

const turn = async () => { for (let i = 0; i < 50; i++) await null; };
let reports = [];
let refreshed = 0;
beforeEach(() => { reports = []; refreshed = 0; });

/** A peer, and `pass(ms)`, which lets time pass. */
function scene(t, roles = { polite: true, offerer: true }) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const peer = new Peer({ id: "p_1", name: "Bob", away: false, ...roles }, {
    config: () => ({ iceServers: [] }),
    refresh: async () => ({ iceServers: [{ urls: `turn:fresh-${++refreshed}` }] }),
    signal: () => {},
    report: (report) => reports.push(report.state),
  });
  const failures = [];
  peer.on("failed", () => failures.push(peer.failed));
  const pass = async (ms) => {
    for (let left = ms; left > 0; left -= 100) {
      t.mock.timers.tick(Math.min(100, left));
      await turn();
    }
  };
  return { peer, pc: peer.pc, pass, failures };
}

test("failed: at once, with fresh credentials", async (t) => {
  const { peer, pc, pass, failures } = scene(t);
  pc.become("connected");
  pc.become("failed");
  await pass(1);
  assert.equal(pc.restarts, 1);
  assert.deepEqual(pc.config.iceServers, [{ urls: "turn:fresh-1" }]);
  await turn();
  assert.deepEqual(reports, ["connected", "failed"]);
  assert.deepEqual([peer.failed, failures], [true, [true]]);
  pc.become("connected");
  await turn();
  assert.deepEqual([peer.failed, reports.at(-1)], [false, "connected"]);
  await pass(60000);
  assert.equal(pc.restarts, 1);
});

test("disconnected: after 3 s without bytes", async (t) => {
  const { pc, pass } = scene(t);
  pc.become("connected");
  pc.become("disconnected");
  await pass(2900);
  assert.equal(pc.restarts, 0);
  await pass(200);
  assert.equal(pc.restarts, 1);
  assert.equal(refreshed, 1);
});

test("disconnected, but bytes come: not as long as they do", async (t) => {
  const { pc, pass } = scene(t);
  pc.become("connected");
  pc.become("disconnected");
  for (let i = 0; i < 10; i++) {
    pc.bytes += 1000;
    await pass(1000);
  }
  assert.equal(pc.restarts, 0);
  await pass(6000);
  assert.equal(pc.restarts, 1);
});

test("disconnected for a moment: nothing is done", async (t) => {
  const { pc, pass } = scene(t);
  pc.become("connected");
  pc.become("disconnected");
  await pass(2000);
  pc.become("connected");
  await pass(60000);
  assert.equal(pc.restarts, 0);
});

test("the other side goes first; if that is of no help, this one follows", async (t) => {
  const { pc, pass } = scene(t, { polite: false, offerer: false });
  pc.become("connected");
  pc.become("failed");
  await pass(1900);
  assert.equal(pc.restarts, 0);
  await pass(200);
  assert.equal(pc.restarts, 1);
});

test("another network: at once, whatever the path looks like", async (t) => {
  const { peer, pc, pass } = scene(t);
  pc.become("connected");
  peer._networkChanged();
  await pass(300);
  assert.equal(pc.restarts, 1);
  assert.equal(refreshed, 1);
});

test("it goes on trying, with growing pauses", async (t) => {
  const { pc, pass } = scene(t);
  pc.become("connected");
  pc.become("failed");
  const times = [];
  for (let ms = 0; ms < 120000; ms += 100) {
    const before = pc.restarts;
    await pass(100);
    if (pc.restarts > before) times.push(ms);
  }
  const pauses = times.slice(1).map((ms, i) => ms - times[i]);
  assert(times.length >= 5 && times.length < 12, times.join(" "));
  assert(pauses.every((pause, i) => i === 0 || pause >= pauses[i - 1] - 100) && pauses.at(-1) <= 33500, pauses.join(" "));
});

test("a browser that never says 'failed' is not waited for", async (t) => {
  const { peer, pc, pass, failures } = scene(t);
  await pass(14900);
  assert.deepEqual([peer.failed, failures], [false, []]);
  await pass(200);
  assert.deepEqual([peer.failed, failures, reports], [true, [true], ["failed"]]);
  assert.equal(pc.restarts, 1);
  // What is being checked now is not disturbed, but not for ever.
  pc.become("checking", "connecting");
  await pass(29800);
  assert.equal(pc.restarts, 1);
  await pass(5000);
  assert.equal(pc.restarts, 2);
  pc.become("connected");
  await pass(60000);
  assert.equal(pc.restarts, 2);
});

test("a path without encryption is not waited for: all begins anew", async (t) => {
  const { peer, pc, pass, failures } = scene(t);
  pc.become("connected", "connecting");
  await pass(29900);
  assert.deepEqual([peer.pc === pc, failures, reports], [true, [true], ["failed"]]);
  await pass(200);
  assert.notEqual(peer.pc, pc);
});

test("with a path in time there is no failure", async (t) => {
  const { pc, pass, failures } = scene(t);
  pc.become("connected");
  await pass(60000);
  assert.deepEqual([failures, reports], [[], ["connected"]]);
});
