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

async function diagnose(kind) {
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
  await it.page.evaluate(() => { navigator.clipboard.writeText = async (text) => { window.copied = text; }; });
  const copied = async (button) => {
    await it.page.click(button);
    return (await it.page.waitForFunction(() => window.copied, null, { polling: 50 })).jsonValue();
  };
  assert.deepEqual(JSON.parse(await copied('#copy-json')), found);
  await it.page.evaluate(() => { window.copied = null; });
  const link = await copied('#copy-link');
  assert.match(link, /\/diagnostics#r=[\w-]+$/);
  const shown = await Page.open(browser, link);
  await shown.page.waitForSelector('#urls tbody tr');
  assert.equal(JSON.parse(await shown.text('#json')).at, found.at);
  assert.equal(await shown.text('#rtt'), await it.text('#rtt'));
  it.check();
  shown.check();
  assert.deepEqual([...it.hosts, ...shown.hosts].filter((host) => !PAGE.endsWith(host)), [], 'it asked somebody else');
  await Promise.all([it.close(), shown.close()]);
}

tests.diagnostics = async () => { await Promise.all(KINDS.map(diagnose)); };

module.exports = { tests };
