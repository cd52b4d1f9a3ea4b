// The diagnostics page in real browsers.
'use strict';
const assert = require('assert/strict');
const { Page, shared } = require('./browser');
const { KINDS } = require('./pages');
const { PAGE } = require('./places');

const tests = {};

async function result(it) {
  await it.page.click('#run');
  return (await it.page.waitForFunction(() => window.diagnostics, null, { timeout: 90000 })).jsonValue();
}

for (const kind of KINDS) {
  tests[`diagnostics ${kind}`] = async () => {
    const browser = await shared(kind);
    const it = await Page.open(browser, '/diagnostics');
    const found = await result(it);
    for (const { url, ipv4, ipv6 } of found.urls) {
      const verdicts = [ipv4.verdict, ipv6.verdict].sort();
      // Chromium connects by name over one family only.
      const expected = kind === 'chromium' && /transport=tcp/.test(url) ? ['reachable', 'untried'] : ['reachable', 'reachable'];
      assert.deepEqual(verdicts, expected, `${url}: ${JSON.stringify([ipv4, ipv6])}`);
    }
    assert.deepEqual(found.urls.map(({ role, transport }) => `${role} ${transport}`), ['stun udp', 'turn udp', 'turn tcp', 'turn tls']);
    assert.equal(found.nat.kind, 'none');
    const { rttMs, loss, mbps } = found.call;
    assert(rttMs > 0 && rttMs < 1000 && loss >= 0 && loss < 0.2 && mbps > 0.5, JSON.stringify(found.call));
    await it.shot(`diagnostics-${kind}`);
    await it.page.click('#copy-link');
    await it.page.waitForFunction(() => location.hash.startsWith('#r='));
    const shown = await Page.open(browser, it.page.url());
    await shown.page.waitForSelector('#urls tbody tr');
    assert.equal(JSON.parse(await shown.text('#json')).at, found.at);
    assert.equal(await shown.text('#rtt'), await it.text('#rtt'));
    it.check([/clipboard/i]);
    shown.check();
    assert.deepEqual([...it.hosts, ...shown.hosts].filter((host) => !PAGE.endsWith(host)), [], 'it asked somebody else');
    await Promise.all([it.close(), shown.close()]);
  };
}

// One relay is all that there is: what else is asked for is refused, and the page says why.
tests['diagnostics refused'] = async (daemon) => {
  await daemon.stop();
  await daemon.start({ limits: { allocations: 1 } });
  try {
    await Promise.all(KINDS.map(async (kind) => {
      const it = await Page.open(await shared(kind), '/diagnostics?lang=en');
      const found = await result(it);
      const refused = found.urls.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]).filter(({ verdict }) => verdict === 'refused');
      assert(refused.length >= 2 && refused.every(({ code }) => code === 486), `${kind}: ${JSON.stringify(found.urls)}`);
      assert.match(await it.text('#urls'), /refused: all relays that one may have are in use \(486\)/);
      assert.match(await it.text('#call-note'), /did not connect: .*486|no relay to try/);
      it.check([/ICE failed/]);
      await it.close();
    }));
  } finally {
    await daemon.stop();
    await daemon.start();
  }
};

module.exports = { tests };
