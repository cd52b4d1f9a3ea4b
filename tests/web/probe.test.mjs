// The parts of probe.js and plot.js that need no browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { line } from "../../web/plot.js";
import { familyOf, judge, natKind, pack, spread, unpack, urlsOf, viaOf } from "../../web/probe.js";

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
  assert.deepEqual(judge(turn, "ipv6"), { verdict: "unreachable", why: "timeout" });
  const refused = { url: "turn:h:3478", role: "turn", candidates: [], errors: [{ code: 486, text: "Allocation Quota Reached", via: null }] };
  assert.deepEqual(judge(refused, "ipv4"), { verdict: "refused", code: 486, why: "Allocation Quota Reached" });
  assert.equal(judge({ ...turn, url: "turn:192.0.2.1:3478" }, "ipv6").verdict, "none");
  assert.equal(judge({ ...turn, url: "turns:[2001:db8::1]:443?transport=tcp" }, "ipv4").verdict, "none");
});

test("what the browser did not try, and what it does not tell", () => {
  const url = { url: "turn:h:3478?transport=tcp", role: "turn", errors: [] };
  const chromium = { ...url, candidates: [{ type: "relay", via: "ipv6", ms: 5 }], errors: [{ code: 701, text: "Address not associated with the desired network interface.", via: "ipv6" }] };
  assert.deepEqual(["ipv4", "ipv6"].map((family) => judge(chromium, family).verdict), ["untried", "reachable"]);
  const one = { ...url, candidates: [{ type: "relay", via: null, ms: 5 }] };
  assert.deepEqual(["ipv4", "ipv6"].map((family) => judge(one, family).verdict), ["reachable", "unreachable"]);
  const two = { ...url, candidates: [...one.candidates, { type: "relay", via: null, ms: 9 }] };
  assert.deepEqual(["ipv4", "ipv6"].map((family) => judge(two, family)), [{ verdict: "reachable", ms: 5 }, { verdict: "reachable", ms: 9 }]);
});

test("the family over which a candidate was had", () => {
  const host = (address, priority) => ({ type: "host", address, priority });
  const hosts = [host("192.0.2.7", 2122187007), host("2001:db8::7", 2122252543)];
  const relay = { type: "relay", address: "203.0.113.10" };
  assert.equal(viaOf(hosts[1], hosts), "ipv6");
  assert.equal(viaOf({ ...relay, relatedAddress: "2001:db8::7" }, hosts), "ipv6");
  assert.equal(viaOf({ ...relay, relatedAddress: relay.address, priority: 92151295 }, hosts), "ipv4");
  assert.equal(viaOf({ ...relay, relatedAddress: relay.address, priority: 92216575 }, hosts), "ipv6");
  assert.equal(viaOf({ ...relay, priority: 92216575 }, [host("0a1b.local", 2122187007)]), null);
  assert.equal(viaOf({ type: "srflx", address: "192.0.2.7" }, []), "ipv4");
});

test("the NAT from its mappings", () => {
  const hosts = [{ address: "10.0.0.2", port: 5000 }];
  const seen = (port, url) => ({ address: "192.0.2.1", port, url });
  assert.equal(natKind(hosts, []), "unknown");
  assert.equal(natKind(hosts, [{ address: "10.0.0.2", port: 5000, url: "a" }]), "none");
  assert.equal(natKind(hosts, [seen(1, "a")]), "some");
  assert.equal(natKind(hosts, [seen(1, "a"), seen(1, "b")]), "independent");
  assert.equal(natKind(hosts, [seen(1, "a"), seen(2, "b")]), "dependent");
  assert.equal(natKind(hosts, [seen(1, "a")], "same"), "independent");
  assert.equal(natKind(hosts, [seen(1, "a")], "other"), "dependent");
  assert.equal(natKind(hosts, [seen(1, "a"), seen(1, "b")], "other"), "dependent");
  assert.equal(natKind(hosts, [{ ...seen(1, "a"), from: 1 }, { ...seen(2, "b"), from: 2 }]), "some", "two sockets have two mappings");
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
