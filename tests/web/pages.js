// The demo page and the diagnostics page in real browsers, side by side in one namespace.
'use strict';
const assert = require('assert/strict');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { Page, has, launch } = require('./browser');
const { PAGE } = require('./daemon');

const REFUSED = [/WebSocket connection to .* failed/, /Failed to load resource/, /can.t establish a connection/i, /was interrupted while the page was loading/];
const video = (s) => s.peers.every((p) => p.framesDecoded > 5 && p.videoTime > 0.3);

/** Opens pages in one room of one browser, runs `act`, and checks that none of them complained. */
async function together(kind, room, names, act, { allowed = [], query = '' } = {}) {
  const running = await launch(kind);
  const pages = [];
  const open = async (name, more = '') => {
    const page = await Page.open(running, `/r/${room}?auto=1&name=${name}${query}${more}`);
    pages.push(page);
    return page;
  };
  try {
    for (const name of names) await open(name);
    const note = await act(pages, open, running);
    for (const page of pages) page.check(allowed);
    return note;
  } catch (error) {
    for (const [i, page] of pages.entries()) await page.shot(`failed-${room}-${i}`).catch(() => {});
    throw error;
  } finally {
    await running.close();
  }
}

async function chat(from, to, text) {
  await from.page.fill('#text', text);
  await from.page.press('#text', 'Enter');
  await to.until(`the line '${text}'`, (s) => s.messages.some((m) => m.text === text));
}

const tests = {};

for (const kind of ['chromium', 'firefox'].filter((kind) => has(kind) || process.env.CI === 'true')) {
  tests[`pages ${kind} two`] = () => together(kind, `two-${kind}`, ['Ada', 'Bob'], async ([a, b]) => {
    for (const it of [a, b]) {
      await it.connected(1);
      await it.until('video', video);
    }
    await chat(a, b, 'hello');
    await chat(b, a, 'and back');
    await a.page.waitForTimeout(3000); // for the plots
    const drawn = await a.page.$$eval('#people .plot path', (paths) => paths.filter((p) => p.getAttribute('d')?.length > 20).length);
    assert(drawn >= 3, `${drawn} plots are drawn`);
    assert.match(await a.text('#people li > .help'), /(host|srflx|prflx|relay) → /);
    // Switched off here: the other side sees it, and goes on hearing.
    await a.page.click('#camera');
    await b.page.waitForSelector('figure[data-peer][data-video="off"]');
    await a.page.click('#camera');
    await b.page.waitForSelector('figure[data-peer][data-video="on"]');
    await a.shot(`two-${kind}`);
  });

  tests[`pages ${kind} three`] = () => together(kind, `three-${kind}`, ['Ada', 'Bob', 'Eve'], async (pages) => {
    for (const it of pages) {
      await it.connected(2);
      await it.until('video of both', video);
    }
    await chat(pages[2], pages[0], 'to all');
    await pages[1].until('the same line', (s) => s.messages.some((m) => m.text === 'to all'));
    await pages[0].shot(`three-${kind}`);
    await pages[1].page.click('#leave');
    for (const it of [pages[0], pages[2]]) await it.connected(1);
  });

  tests[`pages ${kind} reload`] = () => together(kind, `reload-${kind}`, ['Ada', 'Bob'], async ([a, b]) => {
    await a.connected(1);
    for (const [it, other] of [[a, b], [b, a], [a, b]]) {
      const { self } = await it.snapshot();
      await it.page.reload();
      await other.until('the old one is gone', (s) => s.peers.every((p) => p.id !== self));
      for (const each of [it, other]) await each.connected(1);
      await it.until('video', video);
      await chat(it, other, `again ${self}`);
    }
  }, { allowed: REFUSED });

  tests[`pages ${kind} diagnostics`] = async () => {
    const running = await launch(kind);
    try {
      const it = await Page.open(running, '/diagnostics');
      await it.page.click('#run');
      const result = await (await it.page.waitForFunction(() => window.diagnostics, null, { timeout: 90000 })).jsonValue();
      const verdict = (url, family = 'ipv4') => result.urls.find((u) => u.url.includes(url))[family].verdict;
      assert.equal(verdict('turn:203.0.113.10:3478?transport=udp'), 'reachable');
      assert.equal(verdict('turn:203.0.113.10:3478?transport=tcp'), 'reachable');
      assert.equal(verdict('turns:'), 'unreachable', 'no browser trusts a certificate that was made at the start');
      assert.equal(verdict('turn:203.0.113.10', 'ipv6'), 'none');
      assert.equal(result.nat.kind, 'none');
      const { rttMs, loss, mbps } = result.call;
      assert(rttMs > 0 && rttMs < 1000 && loss >= 0 && loss < 0.2 && mbps > 0.5, JSON.stringify(result.call));
      await it.shot(`diagnostics-${kind}`);
      await it.page.click('#copy-link');
      await it.page.waitForFunction(() => location.hash.startsWith('#r='));
      const shown = await Page.open(running, it.page.url());
      await shown.page.waitForSelector('#urls tbody tr');
      assert.equal(JSON.parse(await shown.text('#json')).at, result.at);
      assert.equal(await shown.text('#rtt'), await it.text('#rtt'));
      it.check([/ICE failed/, /clipboard/i]);
      shown.check();
    } finally {
      await running.close();
    }
  };
}

tests['pages screen'] = () => together('chromium', 'screen', ['Ada', 'Bob'], async ([a, b]) => {
  await a.connected(1);
  // A headless browser has no screen to share: a canvas stands in for it.
  await a.page.evaluate(() => {
    const canvas = document.createElement('canvas');
    canvas.width = 320;
    canvas.height = 200;
    setInterval(() => canvas.getContext('2d').fillRect(Math.random() * 300, 0, 20, 200), 50);
    navigator.mediaDevices.getDisplayMedia = async () => canvas.captureStream(20);
  });
  await a.page.click('#screen');
  const size = (it) => it.page.$eval('figure[data-peer] video', (v) => `${v.videoWidth}x${v.videoHeight}`);
  const until = async (wanted) => {
    for (let i = 0; i < 200 && await size(b) !== wanted; i++) await b.page.waitForTimeout(100);
    assert.equal(await size(b), wanted);
  };
  await until('320x200');
  assert.equal(await a.page.getAttribute('#screen', 'data-on'), 'true');
  await a.page.click('#screen');
  await b.page.waitForFunction(() => document.querySelector('figure[data-peer] video').videoWidth > 320);
});

tests['pages resume'] = () => together('chromium', 'resume', ['Ada', 'Bob'], async ([a, b]) => {
  for (const it of [a, b]) await it.connected(1);
  const before = await a.snapshot();
  for (let i = 0; i < 3; i++) {
    await a.page.evaluate(() => window.ternd.room._cut());
    await a.until('resumed', (s) => s.log.filter((line) => /session resumed/.test(line)).length === i + 1);
  }
  const after = await a.snapshot();
  assert.equal(after.self, before.self, 'another membership');
  assert.equal(after.peers[0].id, before.peers[0].id);
  assert.equal(after.peers[0].connectionState, 'connected');
  assert.equal(after.peers[0].connectedMs, before.peers[0].connectedMs, 'the call began anew');
  await chat(a, b, 'still here');
});

tests['pages sse'] = () => together('chromium', 'sse', [], async (pages, open, running) => {
  // As behind a proxy that lets no WebSocket through.
  const blocked = { init: () => {
    const Real = WebSocket;
    window.WebSocket = function Blocked() { return new Real(`ws://${location.host}/nowhere`); };
  } };
  const a = await open('Ada');
  const b = await Page.open(running, '/r/sse?auto=1&name=Bob', blocked);
  pages.push(b);
  for (const it of [a, b]) await it.connected(1);
  assert.equal(await b.page.evaluate(() => window.ternd.room.transport), 'sse');
  await chat(b, a, 'by POST');
}, { allowed: REFUSED });

tests['pages full'] = async (daemon) => {
  await daemon.stop();
  await daemon.start({ rooms: { capacity: 2, 'max-capacity': 2 } }).catch(() => daemon.start({ rooms: { capacity: 2 } }));
  try {
    await together('chromium', 'full', ['Ada', 'Bob'], async ([a], open) => {
      await a.connected(1);
      const c = await open('Eve');
      await c.page.waitForSelector('#notice:not([hidden])');
      assert.match(await c.text('#notice'), /Room full is full/);
      assert.equal((await c.snapshot()).state, 'idle');
      assert.equal(await c.page.getAttribute('body', 'data-view'), 'lobby');
      await c.shot('full');
      await a.connected(1);
    });
  } finally {
    await daemon.stop();
    await daemon.start();
  }
};

tests['pages pin'] = () => together('chromium', 'pin', [], async (pages, open) => {
  const a = await open('Ada', '&pin=1234&media=');
  await a.until('joined', (s) => s.state === 'joined');
  const b = await open('Bob', '&media=');
  await b.page.waitForSelector('#notice:not([hidden])');
  assert.match(await b.text('#notice'), /has a PIN: type it in/);
  assert.equal(await b.page.evaluate(() => document.activeElement.id), 'pin');
  await b.page.fill('#pin', '9');
  await b.page.press('#pin', 'Enter');
  await b.page.waitForFunction(() => /asks for another PIN/.test(document.querySelector('#notice').textContent));
  await b.page.fill('#pin', '1234');
  await b.page.press('#pin', 'Enter');
  for (const it of [a, b]) await it.connected(1);
});

tests['pages invite'] = async (daemon) => {
  await daemon.stop();
  await daemon.start({ rooms: { create: 'token', join: 'token', 'invite-secret': 'a secret of these tests, for invites' } });
  try {
    const link = daemon.ternd(['invite', 'guests', '--role', 'moderator', '--config']).trim();
    const hash = new URL(link).hash;
    assert.match(hash, /^#token=i1\./);
    const shared = { init: () => Object.defineProperty(navigator, 'clipboard', { value: { writeText: async (text) => { window.copied = text; } } }) };
    await together('chromium', 'guests', [], async (pages, open, running) => {
      const visit = async (name, behind) => {
        pages.push(await Page.open(running, `/r/guests?auto=1&name=${name}&media=${behind}`, shared));
        return pages.at(-1);
      };
      const c = await visit('Eve', '');
      await c.page.waitForSelector('#notice:not([hidden])');
      const a = await visit('Ada', hash);
      await a.until('joined', (s) => s.state === 'joined');
      // Her link lets others in, too; and it is an invite of its own.
      await a.page.click('#copy');
      await a.page.waitForFunction(() => window.copied);
      const copied = new URL(await a.page.evaluate(() => window.copied)).hash;
      assert.match(copied, /^#token=i1\./);
      assert.notEqual(copied, hash);
      const b = await visit('Bob', copied);
      for (const it of [a, b]) await it.connected(1);
    });
  } finally {
    await daemon.stop();
    await daemon.start();
  }
};

tests['pages kick'] = () => together('chromium', 'kick', ['Ada', 'Bob', 'Eve'], async ([a, b, c]) => {
  for (const it of [a, b, c]) await it.connected(2);
  assert.equal(await b.page.isVisible('#people li button'), false, 'who is no moderator can put nobody out');
  a.page.on('dialog', (dialog) => dialog.accept());
  await a.page.click('#people li:has(h3:text-is("Bob")) button');
  await b.page.waitForFunction(() => /put you out/.test(document.querySelector('#notice').textContent));
  for (const it of [a, c]) await it.connected(1);
  await c.until('the line', (s) => s.messages.some((m) => m.text === 'Bob was put out'));
  // Locked: nobody comes in.
  await a.page.click('#lock');
  await a.page.waitForSelector('#lock[data-on="true"]');
  await b.page.press('#room', 'Enter');
  await b.page.waitForFunction(() => /is locked/.test(document.querySelector('#notice').textContent));
});

tests['pages camera refused'] = async () => {
  const running = await launch();
  const page = await Page.open(running, '/r/refused?auto=1', { init: () => {
    // The fake devices are granted always: refused is what getUserMedia says then.
    navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('Permission denied', 'NotAllowedError'); };
  } });
  try {
    await page.page.waitForSelector('#notice:not([hidden])');
    assert.match(await page.text('#notice'), /Access to the camera and microphone was refused.*address bar.*Chat works anyway/);
    const shown = await page.until('in the room all the same', (s) => s.state === 'joined');
    assert.equal(shown.camera, false);
    assert.equal(await page.page.isEnabled('#camera'), true);
    await page.shot('camera-refused');
    page.check();
  } finally {
    await running.close();
  }
};

tests['pages keyboard'] = () => together('chromium', 'keyboard', ['Ada'], async ([a], _, running) => {
  const b = await Page.open(running, '/');
  const focused = () => b.page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName);
  /** Presses Tab until `id` has the focus, and looks that the focus can be seen on the way. */
  const tabTo = async (id) => {
    const passed = [];
    for (let i = 0; i < 40; i++) {
      await b.page.keyboard.press('Tab');
      const at = await focused();
      passed.push(at);
      const seen = await b.page.evaluate(() => {
        const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
        return document.activeElement === document.body || (outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2);
      });
      assert(seen, `the focus on ${at} can't be seen`);
      if (at === id) return;
    }
    throw new Error(`Tab does not lead to ${id}: ${passed.join(' ')}`);
  };
  await tabTo('room');
  await b.page.keyboard.press('Control+A');
  await b.page.keyboard.type('keyboard');
  await tabTo('name');
  await b.page.keyboard.type('Bob');
  await b.page.keyboard.press('Enter');
  for (const it of [a, b]) await it.connected(1);
  await tabTo('mic');
  await b.page.keyboard.press('Space');
  await b.page.waitForSelector('#mic[data-on="true"]');
  await tabTo('devices');
  await b.page.keyboard.press('Enter');
  await b.page.waitForSelector('#device-dialog[open]');
  await b.page.keyboard.press('Escape');
  await b.page.waitForSelector('#device-dialog:not([open])', { state: 'attached' });
  await tabTo('text');
  await b.page.keyboard.type('typed');
  await b.page.keyboard.press('Enter');
  await a.until('the line', (s) => s.messages.some((m) => m.from === 'Bob' && m.text === 'typed'));
  await b.page.keyboard.press('Shift+Tab');
  for (let i = 0; i < 30 && await focused() !== 'leave'; i++) await b.page.keyboard.press('Shift+Tab');
  await b.page.keyboard.press('Enter');
  await b.page.waitForSelector('body[data-view="lobby"]');
  assert.equal(await focused(), 'room', 'the focus goes to where one goes on');
  b.check();
});

tests['pages names and contrast'] = async () => {
  const running = await launch();
  try {
    for (const [url, lang] of [['/', 'en'], ['/', 'zh'], ['/diagnostics', 'en'], ['/diagnostics', 'zh'], ['/r/words?auto=1&media=', 'zh']]) {
      for (const colorScheme of ['light', 'dark']) {
        const it = await Page.open(running, `${url}${url.includes('?') ? '&' : '?'}lang=${lang}`, { colorScheme, viewport: { width: 360, height: 740 } });
        await it.page.waitForFunction((l) => document.documentElement.lang.startsWith(l), lang);
        const faults = await it.page.evaluate(faultsOfPage);
        assert.deepEqual(faults, [], `${url} ${lang} ${colorScheme}`);
        it.check();
        await it.close();
      }
    }
  } finally {
    await running.close();
  }
};

/** Runs in the page: what has no name, what can't be told from its ground, what makes the page scroll sideways. */
function faultsOfPage() {
  const faults = [];
  const visible = (e) => e.checkVisibility?.({ visibilityProperty: true }) && e.getClientRects().length > 0;
  for (const e of document.querySelectorAll('button, a, input, select, summary, video')) {
    const name = e.getAttribute('aria-label') || (e.labels?.[0]?.textContent) || (e.tagName === 'INPUT' ? '' : e.textContent);
    if (!name?.trim()) faults.push(`no name: ${e.outerHTML.slice(0, 80)}`);
  }
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0.5) return color;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !visible(e) || e.closest(':disabled, svg, script, noscript')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${texts.currentNode.data.trim().slice(0, 40)}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`scrolls sideways: ${document.documentElement.scrollWidth} px`);
  return faults;
}

tests['pages tutorial'] = async (daemon) => {
  // An operator's own page, as the tutorials have it: inline script, its own copy of socket.io's client.
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'ternd-static-'));
  const client = require.resolve('socket.io-client-4').replace(/build[\\/].*$/, 'dist/socket.io.min.js');
  fs.mkdirSync(path.join(directory, 'js'));
  fs.copyFileSync(client, path.join(directory, 'js/socket.io.js'));
  fs.writeFileSync(path.join(directory, 'index.html'), fs.readFileSync(path.join(__dirname, 'tutorial.html')));
  await daemon.stop();
  await daemon.start({ http: { 'static-dir': directory } });
  const running = await launch();
  try {
    const [a, b] = [await Page.open(running, '/'), await Page.open(running, '/')];
    const inCall = (it) => it.page.waitForFunction(() => window.pc?.connectionState === 'connected' && document.querySelector('#remote').videoWidth > 0, null, { timeout: 30000 });
    await Promise.all([inCall(a), inCall(b)]);
    // The deadlock on reload, and its cure: either page, twice.
    for (const it of [a, b, b, a]) {
      await it.page.reload();
      await Promise.all([inCall(a), inCall(b)]);
    }
    await a.shot('tutorial');
    for (const it of [a, b]) it.check([/favicon/, /status of 404/]);
    assert.equal(await fetch(`${PAGE}/r/demo`).then((r) => r.status), 200, 'the built-in pages stay');
  } finally {
    await running.close();
    await daemon.stop();
    await daemon.start();
    fs.rmSync(directory, { recursive: true, force: true });
  }
};

module.exports = { tests };
