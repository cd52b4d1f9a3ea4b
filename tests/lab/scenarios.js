// What two browsers must reach through ternd, and what they must not reach without it.
'use strict';
const assert = require('assert/strict');
const { sleep } = require('./lab');
const { call, isRelayed, openBoth, peer, proveCall } = require('./calls');

const RELOADS = 3;

const scenarios = {
  symmetric: {
    about: 'symmetric NAT against symmetric NAT: connects through the relay',
    run: call(['alice'], ['bob'], (a, b) => {
      assert(isRelayed(a) && isRelayed(b), 'the pair is not relayed');
    }),
  },

  tcp: {
    about: 'one side without UDP: TURN over TCP',
    run: call(['carol', { servers: 'stun,udp,tcp' }], ['alice'], (carol) => {
      assert.equal(carol.path.local.candidateType, 'relay');
      assert.equal(carol.path.local.relayProtocol, 'tcp');
    }),
  },

  tls443: {
    about: 'one side with nothing but TCP port 443: page, signaling and TURN over TLS through it',
    run: call(['dave'], ['alice'], (dave) => {
      assert.equal(dave.path.local.candidateType, 'relay');
      assert.equal(dave.path.local.relayProtocol, 'tls');
      assert.match(dave.path.local.url, /^turns:[^:]+:443\b/);
    }),
  },

  direct: {
    about: 'port-restricted NAT against its like: connects without a relay',
    // With TURN on offer a relayed pair may win the race although the direct one works too.
    run: call(['erin', { servers: 'stun' }], ['frank', { servers: 'stun' }], (a, b) => {
      assert(!isRelayed(a) && !isRelayed(b), 'the pair is relayed');
    }),
  },

  norelay: {
    about: 'the symmetric pair without TURN: must fail',
    async run(lab, room) {
      const pair = await openBoth(lab, room, ['alice', { servers: 'stun' }], ['bob', { servers: 'stun' }]);
      const gaveUp = (s) => s.log.some((line) => /onnectionState failed$/.test(line));
      for (const it of pair) {
        const { log } = await it.until('ICE gives up', gaveUp, 45000);
        assert(!log.some((line) => /onnectionState (connected|completed)$/.test(line)), `${it.node} connected`);
      }
      return 'both sides failed, as they must';
    },
  },

  stopped: {
    about: 'ternd is stopped during the call: it must break; started again: the pair comes back by itself',
    async run(lab, room) {
      const [a, b] = await openBoth(lab, room, ['alice'], ['bob']);
      await proveCall(a, b);
      lab.stopTernd();
      let mended = '';
      try {
        const broken = (s) => ['disconnected', 'failed'].includes(peer(s)?.iceConnectionState);
        const stopped = Date.now();
        await Promise.all([a, b].map((it) => it.until('the call breaks without ternd', broken, 45000)));
        const brokeMs = Date.now() - stopped;
        const before = await Promise.all([a, b].map((it) => it.snapshot()));
        await sleep(3000);
        for (const [i, it] of [a, b].entries()) {
          const after = await it.snapshot();
          assert(broken(after), `${it.node} is connected without ternd`);
          assert.equal(peer(after).framesDecoded, peer(before[i]).framesDecoded, `${it.node} gets video without ternd`);
        }
        mended = `broke ${(brokeMs / 1000).toFixed(1)} s after the stop`;
      } finally {
        await lab.startTernd();
      }
      const started = Date.now();
      await proveCall(a, b, 45000);
      return `${mended}, back ${((Date.now() - started) / 1000).toFixed(1)} s after the start`;
    },
  },

  reload: {
    about: `either page is reloaded ${RELOADS} times in a row: the pair reconnects each time`,
    async run(lab, room) {
      const [a, b] = await openBoth(lab, room, ['alice'], ['bob']);
      await proveCall(a, b);
      const times = [];
      for (const [it, other] of [[a, b], [b, a]]) {
        for (let i = 0; i < RELOADS; i++) {
          const { self } = await it.snapshot();
          const begin = Date.now();
          await it.ask('reload');
          // The other side must not be judged by the connection to the page that is gone.
          await other.until('the old peer is gone', (s) => s.peers.every((p) => p.id !== self), 10000);
          await proveCall(a, b);
          times.push(((Date.now() - begin) / 1000).toFixed(1));
        }
      }
      return `back with video and chat after ${times.join(', ')} s`;
    },
  },

  cable: {
    about: 'a cable is pulled until both notice: the same connection comes back by an ICE restart',
    async run(lab, room) {
      const [a, b] = await openBoth(lab, room, ['alice'], ['bob']);
      await proveCall(a, b);
      const before = peer(await a.snapshot()).id;
      lab.natlab('exec', 'alice-gw1', 'ip', 'link', 'set', 'lan', 'down');
      try {
        await Promise.all([a, b].map((it) => it.until('notices', (s) => peer(s)?.iceConnectionState !== 'connected')));
        await sleep(5000);
      } finally {
        lab.natlab('exec', 'alice-gw1', 'ip', 'link', 'set', 'lan', 'up');
      }
      const begin = Date.now();
      await proveCall(a, b, 45000);
      const [afterA, afterB] = [peer(await a.snapshot()), peer(await b.snapshot())];
      assert.equal(afterA.id, before, 'not the same connection');
      const restarts = afterA.restarts + afterB.restarts;
      assert(restarts > 0, 'it came back without an ICE restart: the cable was not out for long enough');
      return `back ${((Date.now() - begin) / 1000).toFixed(1)} s after the cable, ${restarts} ICE restart(s)`;
    },
  },

  diagnostics: {
    about: 'what /diagnostics says behind each kind of NAT: the kind, which ways are open, a relayed call',
    async run(lab) {
      const expected = [
        ['alice', 'dependent', 'udp tcp tls'], ['erin', 'independent', 'udp tcp tls'], ['carol', 'unknown', 'tcp tls'], ['dave', 'unknown', 'tls'],
      ];
      const notes = await Promise.all(expected.map(async ([node, kind, open]) => {
        const { nat, urls, call } = await lab.diagnose(node);
        assert.equal(nat.kind, kind, `${node}: ${JSON.stringify(nat)}`);
        const reached = ({ role, ipv4, ipv6 }) => role === 'turn' && [ipv4, ipv6].some(({ verdict }) => verdict === 'reachable');
        assert.equal(urls.filter(reached).map(({ transport }) => transport).join(' '), open, `${node}: ${JSON.stringify(urls)}`);
        assert(call.rttMs > 0 && call.mbps > 0 && open.split(' ').includes(call.relay), `${node}: ${JSON.stringify(call)}`);
        return `${node}: ${nat.kind}, ${open.replaceAll(' ', '+')}, ${call.mbps.toFixed(0)} Mbit/s over ${call.relay}`;
      }));
      return notes.join('; ');
    },
  },
};

module.exports = { scenarios };
