// The parts of probe.js and plot.js that need no browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { line } from "../../web/plot.js";
import { familyOf, judge, natKind, pack, spread, unpack, urlsOf } from "../../web/probe.js";

test("each URL by itself", () => {
  const servers = [{ urls: "stun:h:3478" }, { urls: ["turn:h:3478?transport=udp", "turn:h:3478?transport=tcp", "turns:h:443?transport=tcp"], username: "u", credential: "c" }];
  assert.deepEqual(urlsOf(servers).map(({ role, transport }) => `${role} ${transport}`), ["stun udp", "turn udp", "turn tcp", "turn tls"]);
  assert.deepEqual(urlsOf(servers)[2].server, { urls: ["turn:h:3478?transport=tcp"], username: "u", credential: "c" });
});

test("families, of masked addresses too", () => {
  for (const [address, family] of [["192.0.2.1", "ipv4"], ["0.0.0.0", "ipv4"], ["0.0.0.x", "ipv4"], ["2001:db8::1", "ipv6"], ["[0:0:0:x:x:x:x:x]", "ipv6"], ["::", "ipv6"],
    ["0a1b.local", null], ["", null], [null, null]]) assert.equal(familyOf(address), family, address);
});

test("reachable, refused, not reachable, no such address", () => {
  const turn = { url: "turn:h:3478", role: "turn", candidates: [{ type: "relay", via: "ipv4", ms: 30 }], errors: [{ code: 701, text: "timeout", via: "ipv6" }] };
  assert.deepEqual(judge(turn, "ipv4"), { verdict: "reachable", ms: 30 });
  assert.deepEqual(judge(turn, "ipv6"), { verdict: "unreachable" });
  const refused = { url: "turn:h:3478", role: "turn", candidates: [], errors: [{ code: 486, text: "Allocation Quota Reached", via: null }] };
  assert.deepEqual(judge(refused, "ipv4"), { verdict: "refused", why: "486 Allocation Quota Reached" });
  assert.equal(judge({ ...turn, url: "turn:192.0.2.1:3478" }, "ipv6").verdict, "none");
  assert.equal(judge({ ...turn, url: "turns:[2001:db8::1]:443?transport=tcp" }, "ipv4").verdict, "none");
});

test("the NAT from its mappings", () => {
  const hosts = [{ address: "10.0.0.2", port: 5000 }];
  const seen = (port, url) => ({ address: "192.0.2.1", port, url });
  assert.equal(natKind(hosts, []), "unknown");
  assert.equal(natKind(hosts, [{ address: "10.0.0.2", port: 5000, url: "a" }]), "none");
  assert.equal(natKind(hosts, [seen(1, "a")]), "some");
  assert.equal(natKind(hosts, [seen(1, "a"), seen(1, "b")]), "independent");
  assert.equal(natKind(hosts, [seen(1, "a"), seen(2, "b")]), "dependent");
});

test("mean and jitter", () => {
  assert.deepEqual(spread([]), { mean: null, jitter: null });
  assert.deepEqual(spread([10, 20, 10]), { mean: 40 / 3, jitter: 10 });
});

test("a result goes into a link and comes back; what unfolds too far does not", async () => {
  const result = { version: 1, urls: [{ url: "turn:h", ipv4: { verdict: "refused", why: "401 会" } }] };
  const packed = await pack(result);
  assert.match(packed, /^[\w-]+$/);
  assert.deepEqual(await unpack(packed), result);
  await assert.rejects(unpack(await pack("x".repeat(300000))), /too large/);
});

test("a line through values has gaps where there are none", () => {
  assert.equal(line([0, 10, null, 5], 10, 59, 12), "M56.0 11.0L57.0 1.0M59.0 6.0");
});
