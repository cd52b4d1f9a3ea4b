// What an operator does to the installed service, with a call of two browsers running through it.
'use strict';
const assert = require('assert/strict');
const { sleep } = require('./lab');
const { inWords, isRelayed, openBoth, peer, proveCall, proveChat, proveVideo } = require('./calls');

/** A call that is watched from here on: `goesOn` fails if anything at all has happened to it. */
async function watch(service, its) {
  const before = await Promise.all(its.map((it) => it.snapshot()));
  const relays = () => service.ctl('allocations').map(({ client, relays: [relay] }) => `${client} ${relay}`).sort();
  const relaysBefore = relays();
  return async (during) => {
    await Promise.all(its.map(proveVideo));
    await proveChat(its[0], its[1]);
    await proveChat(its[1], its[0]);
    for (const [i, it] of its.entries()) {
      const { log, state, peers } = await it.snapshot();
      const happened = log.slice(before[i].log.length).filter((line) => /[●!]/.test(line));
      assert.deepEqual(happened, [], `${it.node}, ${during}`);
      assert.deepEqual([state, peers[0].id, peers[0].restarts],
        [before[i].state, peer(before[i]).id, peer(before[i]).restarts], `${it.node}, ${during}`);
    }
    assert.deepEqual(relays(), relaysBefore, `the allocations, ${during}`);
  };
}

async function until(what, test, ms = 20000) {
  const end = Date.now() + ms;
  while (!test()) {
    if (Date.now() > end) throw new Error(`${what}: not within ${ms / 1000} s`);
    await sleep(250);
  }
}

const scenarios = {
  installed: {
    about: 'the package on a real systemd: symmetric NATs connect through it; reload and drain under their feet',
    async run(lab, room) {
      const { server: service } = lab;
      const [a, b] = await openBoth(lab, room, ['alice'], ['bob']);
      const [pa, pb] = await proveCall(a, b);
      assert(isRelayed(pa) && isRelayed(pb), 'the pair is not relayed');
      const goesOn = await watch(service, [a, b]);

      const good = service.toml;
      // The UDP port that the call goes through is none for strangers any more.
      const other = good.replace('[listen]', '[listen]\nudp = 3480').replace('level = "debug"', 'level = "info"');
      service.configure(`drain-timeout = "5m"\n${other}`);
      service.exec('systemctl', 'reload', 'ternd');
      assert.equal(service.ctl('log-level').level, 'info');
      assert.match(service.log(), /no longer listening on 0\.0\.0\.0:3478: STUN and TURN over UDP/);
      await goesOn('after the reload');

      service.configure(`nonsense = 1\n${good}`);
      assert.notEqual(service.attempt('systemctl', 'reload', 'ternd').status, 0, 'a broken file is taken');
      assert.match(service.show('StatusText'), /LAST RELOAD REFUSED: .*nonsense/);
      await goesOn('after a reload that was refused');

      service.exec('systemctl', 'stop', '--no-block', 'ternd');
      await until('it drains', () => service.ctl('status').state === 'draining');
      const { text: ready } = service.attempt('curl', '-ks', '-o', '/dev/null', '-w', '%{http_code}', 'https://127.0.0.1/readyz');
      assert.equal(ready, '503');
      assert.equal(service.show('ActiveState'), 'deactivating');
      for (const it of [a, b]) {
        await it.until('it is told', ({ log }) => log.some((line) => line.endsWith('← draining')));
      }
      await goesOn('while the service drains');

      // Who leaves the page has ended its call: with the last one the service ends, long before its deadline.
      await lab.closeBrowsers();
      await until('it ends', () => service.show('ActiveState') === 'inactive');
      assert.equal(service.show('Result'), 'success');
      return `${inWords(a, pa)}; ${inWords(b, pb)}; nothing happened to them, and the service ended with the call`;
    },
  },
};

module.exports = { scenarios };
