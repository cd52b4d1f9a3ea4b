// How the pages look: what can be read, what has a name, what fits. Screenshots of it all: target/web/look-*.png.
'use strict';
const assert = require('assert/strict');
const { Page, shared } = require('./browser');
const { chat, together } = require('./pages');

const tests = {};

const SIZES = { phone: { width: 320, height: 720 }, desktop: { width: 1280, height: 900 } };

/** Looks at what a page shows now: on a phone and on a desktop, light and dark, in both languages. */
async function look(it, name, faults = []) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    await it.page.setViewportSize(viewport);
    for (const colorScheme of ['light', 'dark']) {
      await it.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      for (const lang of ['en', 'zh']) {
        await it.page.evaluate(speak, lang);
        const found = await it.page.evaluate(faultsOfPage);
        faults.push(...found.map((fault) => `${name} ${size} ${colorScheme} ${lang}: ${fault}`));
      }
      await it.page.evaluate(speak, 'en');
      await it.shot(`look-${name}-${size}-${colorScheme}`);
    }
  }
  assert.deepEqual(faults, []);
}

/** Runs in the page: switches its language. */
function speak(lang) {
  if (!document.documentElement.lang.startsWith(lang)) document.querySelector('#language').click();
}

/** Runs in the page: what has no name, what can't be told from its ground, what makes the page scroll sideways. */
function faultsOfPage() {
  const faults = [];
  const visible = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length > 0;
  for (const e of document.querySelectorAll('button, a, input, select, summary, video, [role], section, table, ol, ul')) {
    const by = (e.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id)?.textContent).join(' ').trim();
    const inside = ['INPUT', 'SELECT', 'VIDEO', 'SECTION', 'TABLE'].includes(e.tagName) ? '' : e.textContent;
    const name = by || e.getAttribute('aria-label') || e.labels?.[0]?.textContent || inside;
    const needed = !['TABLE', 'OL', 'UL'].includes(e.tagName) && !['status', 'alert'].includes(e.getAttribute('role')) && !e.matches('section.card:not([aria-labelledby])');
    if (needed && !name?.trim()) faults.push(`no name: ${e.outerHTML.slice(0, 80)}`);
  }
  const titles = [...document.querySelectorAll('h1')].filter(visible).map((e) => e.textContent);
  if (titles.length !== 1 || !titles[0]) faults.push(`its titles: ${JSON.stringify(titles)}`);

  // WCAG 2.2: relative luminance and contrast ratio.
  const parse = (color) => { const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
  const over = (top, a, below) => top.map((v, i) => v * a + below[i] * (1 - a));
  const luminance = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (one, other) => {
    const [a, b] = [luminance(one), luminance(other)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  /** The colours that may be behind an element: through what is translucent a picture of any colour may shine. */
  const grounds = (e) => {
    if (!e) return [[255, 255, 255]];
    const { rgb, a } = parse(getComputedStyle(e).backgroundColor);
    if (a === 1) return [rgb];
    const below = a > 0 && e.closest('.tile') ? [[255, 255, 255], [0, 0, 0]] : grounds(e.parentElement);
    return below.map((ground) => over(rgb, a, ground));
  };
  const opacity = (e) => (e ? Number(getComputedStyle(e).opacity) * opacity(e.parentElement) : 1);
  const contrast = (color, e, behind) => Math.min(...grounds(behind).map((ground) => {
    const { rgb, a } = parse(color);
    return ratio(over(rgb, a * opacity(e), ground), ground);
  }));
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !visible(e) || e.closest(':disabled, svg, script, noscript')) continue;
    const found = contrast(getComputedStyle(e).color, e, e);
    if (found < 4.5) faults.push(`contrast ${found.toFixed(2)}: ${texts.currentNode.data.trim().slice(0, 40)}`);
  }
  // Where a control is: its border, or its own ground, against what is around it.
  for (const e of document.querySelectorAll('input, select, button:not(.round), .round > svg, .plot path')) {
    if (!visible(e) || e.closest(':disabled')) continue;
    const style = getComputedStyle(e);
    const edges = e.matches('path') ? [style.stroke] : [style.borderTopColor, style.backgroundColor];
    const found = Math.max(...edges.map((color) => contrast(color, e, e.parentElement)));
    if (found < 3) faults.push(`contrast ${found.toFixed(2)} of the edge of ${e.outerHTML.slice(0, 60)}`);
  }
  // What is touched: WCAG 2.2 wants 24 px at least.
  for (const e of document.querySelectorAll('button, input, select, summary')) {
    const { width, height } = e.getBoundingClientRect();
    if (visible(e) && Math.min(width, height) < 24) faults.push(`${width}x${height} px: ${e.outerHTML.slice(0, 60)}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`scrolls sideways: ${document.documentElement.scrollWidth} px`);
  for (const e of document.querySelectorAll('button, h1, h2, label, .status, .who')) {
    if (visible(e) && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).textOverflow !== 'ellipsis' && getComputedStyle(e).display !== 'inline') {
      faults.push(`cut off: ${e.outerHTML.slice(0, 60)}`);
    }
  }
  return faults;
}

tests['looks lobby'] = async () => {
  const it = await Page.open(await shared('chromium'), '/?lang=en');
  await look(it, 'lobby');
  await it.page.fill('#room', '!');
  await it.page.press('#room', 'Enter');
  await it.notice(/begins with a letter/);
  await it.page.click('#devices');
  await it.page.waitForSelector('#device-dialog[open]');
  await look(it, 'devices');
  it.check();
  await it.close();
};

tests['looks alone'] = () => together('chromium', 'looks-alone', ['Ada'], async ([a]) => {
  await a.until('joined', (s) => s.state === 'joined');
  await look(a, 'alone');
}, { query: '&media=' });

tests['looks call'] = () => together('chromium', 'looks-call', ['Ada', 'Bob'], async ([a, b], open) => {
  const c = await open('Somebody%20with%20a%20rather%20long%20name', '&media=');
  for (const it of [a, b, c]) await it.connected(2);
  await a.until('video', (s) => s.peers.some((p) => p.framesDecoded > 5));
  await chat(a, b, 'a line of our own');
  await chat(c, a, 'and a line of theirs, which is longer, so that it has to be broken somewhere');
  await a.page.$eval('#details', (e) => { e.open = true; });
  await look(a, 'call');
});

// A full mesh: eight pages, 28 connections.
tests['looks eight'] = () => together('chromium', 'looks-eight', [...'ABCDEFGH'].map((letter) => `Guest${letter}`), async (pages, open) => {
  for (const it of pages) await it.connected(7, 60000);
  await chat(pages[7], pages[0], 'to all seven');
  for (const it of pages.slice(1, 7)) await it.until('the line', (s) => s.messages.some((m) => m.text === 'to all seven'));
  const ninth = await open('GuestI');
  await ninth.notice(/Room looks-eight is full/);
  await look(pages[0], 'eight');
}, { query: '&media=' });

/** Every verdict that there is. */
const RESULT = {
  version: 1, at: '2026-11-22T12:00:00.000Z', server: 'turn.example.org', browser: 'a browser',
  urls: [
    { url: 'stun:turn.example.org:3478', role: 'stun', transport: 'udp', ipv4: { verdict: 'reachable', ms: 21 }, ipv6: { verdict: 'unreachable' } },
    { url: 'turn:turn.example.org:3478?transport=udp', role: 'turn', transport: 'udp', ipv4: { verdict: 'reachable', ms: 23 }, ipv6: { verdict: 'refused', code: 486, why: 'x' } },
    { url: 'turn:turn.example.org:3478?transport=tcp', role: 'turn', transport: 'tcp', ipv4: { verdict: 'unreachable', why: 'Failed to establish connection' }, ipv6: { verdict: 'untried' } },
    { url: 'turns:203.0.113.10:443?transport=tcp', role: 'turn', transport: 'tls', ipv4: { verdict: 'reachable' }, ipv6: { verdict: 'none' } },
  ],
  nat: { kind: 'dependent', mappings: [{ address: '192.0.2.7', port: 50112, from: 1, url: 'a' }], relayed: 'other' },
  call: { rttMs: 41.2, jitterMs: 3.1, loss: 0.0067, mbps: 12.4, relay: 'udp' },
};

tests['looks diagnostics'] = async () => {
  const browser = await shared('chromium');
  const it = await Page.open(browser, '/diagnostics?lang=en');
  await look(it, 'diagnostics-before');
  const link = await it.page.evaluate(async (result) => {
    const { pack } = await import('/probe.js');
    return `${location.origin}/diagnostics?lang=en#r=${await pack(result)}`;
  }, RESULT);
  const shown = await Page.open(browser, link);
  await shown.page.waitForSelector('#urls tbody tr');
  assert.match(await shown.text('#urls'), /Relay over UDP.*reachable, 23 ms.*refused: all relays that one may have are in use \(486\)/s);
  assert.match(await shown.text('#urls'), /not reachable: Failed to establish connection.*not tried by this browser.*no such address/s);
  await look(shown, 'diagnostics');
  for (const bad of ['AAAA', await it.page.evaluate(async () => (await import('/probe.js')).pack({ urls: 'no list', nat: 7 }))]) {
    const broken = await Page.open(browser, `/diagnostics?lang=en#r=${bad}`);
    await broken.notice(/holds no result/);
    broken.check();
    await broken.close();
  }
  for (const each of [it, shown]) {
    each.check();
    await each.close();
  }
};

module.exports = { tests };
