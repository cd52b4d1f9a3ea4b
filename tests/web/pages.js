// The demo page in real browsers, side by side in one namespace.
'use strict';
const assert = require('assert/strict');
const { Page, has, launch, shared } = require('./browser');
const { cut } = require('./network');
const { PAGE_PORT } = require('./places');

const KINDS = ['chromium', 'firefox'].filter((kind) => has(kind) || process.env.CI === 'true');
/** What a browser writes to its console when the network or the test closes a connection. */
const LOST = [/WebSocket connection to .* failed/, /Failed to load resource/, /can.t establish a connection/i, /was interrupted while the page was loading/];
const video = (s) => s.peers.every((p) => p.framesDecoded > 5 && p.videoTime > 0.3);
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Opens pages in one room, each in a browser of its kind, runs `act`, and checks that none of them complained. */
async function together(kinds, room, names, act, { allowed = [], query = '' } = {}) {
  const pages = [];
  const open = async (name, more = '', options = {}) => {
    const kind = [kinds].flat()[pages.length] ?? [kinds].flat()[0];
    const page = await Page.open(await shared(kind), `/r/${room}?auto=1&lang=en&name=${name}${query}${more}`, options);
    pages.push(page);
    return page;
  };
  try {
    for (const name of names) await open(name);
    const note = await act(pages, open);
    for (const page of pages) page.check(allowed);
    return note;
  } catch (error) {
    for (const [i, page] of pages.entries()) await page.shot(`failed-${room}-${i}`).catch(() => {});
    throw error;
  } finally {
    await Promise.all(pages.map((page) => page.close().catch(() => {})));
  }
}

async function chat(from, to, text) {
  await from.page.fill('#text', text);
  await from.page.press('#text', 'Enter');
  await to.until(`the line '${text}'`, (s) => s.messages.some((m) => m.text === text));
}

const tests = {};

/** A test for each browser: `act(kind, room)`. */
function each(name, act) {
  for (const kind of KINDS) tests[`pages ${kind} ${name}`] = () => act(kind, `${name.replaceAll(' ', '-')}-${kind}`);
}

/** The same at the same time in all browsers: for what waits more than it works. */
function both(name, act) {
  tests[`pages ${name}`] = async () => {
    const ends = await Promise.allSettled(KINDS.map((kind) => act(kind, `${name.replaceAll(' ', '-')}-${kind}`)));
    ends.forEach(({ reason }, i) => { if (reason) throw new Error(`${KINDS[i]}: ${reason.message}`, { cause: reason }); });
  };
}

each('two', (kind, room) => together(kind, room, ['Ada', 'Bob'], async ([a, b]) => {
  for (const it of [a, b]) {
    await it.connected(1);
    await it.until('video', video);
  }
  await chat(a, b, 'hello');
  await chat(b, a, 'and back');
  await a.page.waitForTimeout(3000); // for the plots
  const drawn = await a.page.$$eval('#people .plot path', (paths) => paths.filter((p) => p.getAttribute('d')?.length > 20).length);
  assert(drawn >= 3, `${drawn} plots are drawn`);
  assert.match(await a.text('#people .way'), /(host|srflx|prflx|relay) .* → (host|srflx|prflx|relay) /);
  // Switched off here: the other side sees it, and goes on hearing.
  for (const [button, attribute] of [['#camera', 'data-video'], ['#mic', 'data-audio']]) {
    await a.page.click(button);
    await b.page.waitForSelector(`figure[data-peer][${attribute}="off"]`);
    await a.page.click(button);
    await b.page.waitForSelector(`figure[data-peer][${attribute}="on"]`);
  }
  await a.shot(`two-${kind}`);
}));

each('three', (kind, room) => together(kind, room, ['Ada', 'Bob', 'Eve'], async (pages) => {
  for (const it of pages) {
    await it.connected(2);
    await it.until('video of both', video);
  }
  await chat(pages[2], pages[0], 'to all');
  await pages[1].until('the same line', (s) => s.messages.some((m) => m.text === 'to all'));
  await pages[0].shot(`three-${kind}`);
  await pages[1].page.click('#leave');
  for (const it of [pages[0], pages[2]]) await it.connected(1);
}));

each('reload', (kind, room) => together(kind, room, ['Ada', 'Bob'], async ([a, b]) => {
  await a.connected(1);
  for (const [it, other] of [[a, b], [b, a], [a, b]]) {
    const { self } = await it.snapshot();
    await it.page.reload();
    await other.until('the old one is gone', (s) => s.peers.every((p) => p.id !== self));
    for (const one of [it, other]) await one.connected(1);
    await it.until('video', video);
    await chat(it, other, `again ${self}`);
  }
}, { allowed: LOST }));

/** The same membership, the same connection. */
function same(before, after) {
  assert.equal(after.self, before.self, 'another membership');
  assert.equal(after.peers[0].id, before.peers[0].id);
  assert.equal(after.peers[0].connectedMs, before.peers[0].connectedMs, 'the call began anew');
}

// A cable is out for a while, for a pair in each of the browsers.
tests['pages network cut'] = async () => {
  const pages = [];
  try {
    for (const kind of KINDS) {
      for (const name of ['Ada', 'Bob']) pages.push(await Page.open(await shared(kind), `/r/cut-${kind}?auto=1&lang=en&name=${name}`));
    }
    const all = (act) => Promise.all(pages.map(act));
    await all((it) => it.connected(1));
    await all((it) => it.until('video', video));
    const before = await all((it) => it.snapshot());
    await cut([PAGE_PORT, 3478, 8443], async () => {
      await all((it) => it.until('it notices', (s) => s.peers[0].iceConnectionState !== 'connected', 45000));
      await pause(8000);
      await all(async (it) => assert.match(await it.text('#status'), /Lost the path|out of reach/));
      await pages[0].shot('network-cut');
    });
    const begin = Date.now();
    await all((it) => it.connected(1, 45000));
    const seconds = ((Date.now() - begin) / 1000).toFixed(1);
    const after = await all((it, i) => it.until('moving video', (s) => s.peers[0].framesDecoded > before[i].peers[0].framesDecoded + 10));
    after.forEach((s, i) => same(before[i], s));
    const resumed = after.filter(({ log }) => log.some((line) => /session resumed/.test(line))).length;
    const restarts = after.map((s) => s.peers[0].restarts);
    for (let i = 0; i < pages.length; i += 2) {
      assert(restarts[i] + restarts[i + 1] > 0, 'it came back without an ICE restart');
      await chat(pages[i], pages[i + 1], 'still here');
      await chat(pages[i + 1], pages[i], 'here, too');
    }
    assert(resumed > 0, 'no session had to be resumed: the cable was not out for long enough');
    pages.forEach((it) => it.check(LOST));
    return `back after ${seconds} s; ICE restarts: ${restarts.join(', ')}; sessions resumed: ${resumed}`;
  } catch (error) {
    for (const [i, page] of pages.entries()) await page.shot(`failed-cut-${i}`).catch(() => {});
    throw error;
  } finally {
    await Promise.all(pages.map((page) => page.close()));
  }
};

both('resume', (kind, room) => together(kind, room, ['Ada', 'Bob'], async ([a, b]) => {
  for (const it of [a, b]) await it.connected(1);
  const before = await a.snapshot();
  for (let i = 0; i < 3; i++) {
    await a.page.evaluate(() => window.ternd.room._cut());
    await a.until('resumed', (s) => s.log.filter((line) => /session resumed/.test(line)).length === i + 1);
  }
  const after = await a.snapshot();
  same(before, after);
  assert.equal(after.peers[0].connectionState, 'connected');
  await chat(a, b, 'still here');
}, { query: '&media=' }));

// Both sides restart ICE at the same moment, again and again: offers cross, and the polite side gives way.
both('network change', (kind, room) => together(kind, room, ['Ada', 'Bob'], async (pages) => {
  for (const it of pages) await it.connected(1);
  const before = await Promise.all(pages.map((it) => it.snapshot()));
  for (let i = 1; i <= 3; i++) {
    await Promise.all(pages.map((it) => it.page.evaluate(() => { window.dispatchEvent(new Event('online')); })));
    for (const it of pages) await it.until('an ICE restart', (s) => s.peers[0].restarts >= i);
    await pause(300);
    for (const it of pages) {
      await it.until('connected and at rest', (s) => s.peers[0].connectionState === 'connected' && s.peers[0].signalingState === 'stable');
    }
  }
  for (const [i, it] of pages.entries()) same(before[i], await it.snapshot());
  await chat(pages[0], pages[1], 'still here');
}, { query: '&media=' }));

both('sse', (kind, room) => together(kind, room, ['Ada'], async ([a], open) => {
  // As behind a proxy that lets no WebSocket through.
  const b = await open('Bob', '', { init: () => {
    const Real = WebSocket;
    window.WebSocket = function Blocked() { return new Real(`ws://${location.host}/nowhere`); };
  } });
  for (const it of [a, b]) await it.connected(1);
  assert.equal(await b.page.evaluate(() => window.ternd.room.transport), 'sse');
  await chat(b, a, 'by POST');
  await b.page.click('#leave');
  await a.until('it left, and is not just lost', (s) => s.peers.length === 0, 10000);
}, { allowed: LOST, query: '&media=' }));

both('full', (kind, room) => together(kind, room, [], async (pages, open) => {
  // The room's maker said how many may come in.
  const maker = await Page.open(await shared(kind), '/');
  pages.push(maker);
  await maker.page.evaluate(async (name) => {
    const { join } = await import('/ternd.js');
    window.call = await join({ room: name, capacity: 2 });
  }, room);
  const a = await open('Ada');
  await a.connected(1);
  const c = await open('Eve');
  await c.notice(new RegExp(`Room ${room} is full`));
  assert.equal((await c.snapshot()).state, 'idle');
  assert.equal(await c.page.getAttribute('body', 'data-view'), 'lobby');
  await c.shot(`full-${kind}`);
  await a.connected(1);
  await maker.page.evaluate(() => window.call.leave());
  await c.page.press('#room', 'Enter');
  await c.connected(1);
}, { query: '&media=' }));

both('pin', (kind, room) => together(kind, room, [], async (pages, open) => {
  const a = await open('Ada', '&pin=1234');
  await a.until('joined', (s) => s.state === 'joined');
  const b = await open('Bob');
  await b.notice(/has a PIN: type it in/);
  assert.equal(await b.page.evaluate(() => document.activeElement.id), 'pin');
  await b.page.fill('#pin', '9');
  await b.page.press('#pin', 'Enter');
  await b.notice(/asks for another PIN/);
  await b.page.fill('#pin', '1234');
  await b.page.press('#pin', 'Enter');
  for (const it of [a, b]) await it.connected(1);
  // The invite of a moderator leads in without it.
  const link = await a.page.evaluate(() => {
    navigator.clipboard.writeText = async (text) => { window.copied = text; };
    document.querySelector('#copy-small').click();
    return new Promise((resolve) => { setInterval(() => window.copied && resolve(window.copied), 20); });
  });
  const c = await Page.open(await shared(kind), link.replace(/#|$/, (at) => `?auto=1&media=${at}`));
  pages.push(c);
  await c.connected(2);
}, { query: '&media=' }));

/** Where rooms need a token: the operator's link lets in, and so does the one that the page then gives out. */
tests['pages invite'] = async (daemon) => {
  await daemon.stop();
  await daemon.start({ rooms: { create: 'token', join: 'token', 'invite-secret': 'a secret of these tests, for invites' } });
  try {
    const room = 'guests';
    const { hash } = new URL(daemon.ternd(['invite', room, '--role', 'moderator', '--config']).trim());
    assert.match(hash, /^#token=i1\./);
    const kinds = [KINDS[0], KINDS.at(-1)];
    await together(kinds, room, [], async (pages, open) => {
      const stranger = await open('Eve', '&media=');
      await stranger.page.waitForSelector('#notice:not([hidden])');
      const a = await open('Ada', `&media=${hash}`);
      await a.until('joined', (s) => s.state === 'joined');
      const link = await a.page.evaluate(() => {
        navigator.clipboard.writeText = async (text) => { window.copied = text; };
        document.querySelector('#copy-small').click();
        return new Promise((resolve) => { setInterval(() => window.copied && resolve(window.copied), 20); });
      });
      const behind = new URL(link).hash;
      assert.match(behind, /^#token=i1\./);
      assert.notEqual(behind, hash);
      const b = await open('Bob', `&media=${behind}`);
      for (const it of [a, b]) await it.connected(1);
    });
  } finally {
    await daemon.stop();
    await daemon.start();
  }
};

both('kick', (kind, room) => together(kind, room, ['Ada', 'Bob', 'Eve'], async ([a, b, c]) => {
  for (const it of [a, b, c]) await it.connected(2);
  assert.equal(await b.page.isVisible('#people li button'), false, 'who is no moderator can put nobody out');
  a.page.on('dialog', (dialog) => dialog.accept());
  await a.page.click('#people li:has(h3:text-is("Bob")) button');
  await b.notice(/put you out/);
  for (const it of [a, c]) await it.connected(1);
  await c.until('the line', (s) => s.messages.some((m) => m.text === 'Bob was put out'));
  // Locked: nobody comes in.
  await a.page.click('#lock');
  await a.page.waitForSelector('#lock[data-on="true"]');
  await b.page.press('#room', 'Enter');
  await b.notice(/is locked/);
}, { query: '&media=' }));

both('camera refused', async (kind) => {
  const browser = await launch(kind, { devices: 'refused' });
  try {
    const it = await Page.open(browser, '/r/refused?auto=1');
    await it.notice(/Access to the camera and microphone was refused.*address bar.*Chat works anyway/);
    const shown = await it.until('in the room all the same', (s) => s.state === 'joined');
    assert.equal(shown.camera, false);
    assert.equal(await it.page.isEnabled('#camera'), true);
    await it.shot(`camera-refused-${kind}`);
    it.check();
  } finally {
    await browser.close();
  }
});

both('keyboard', (kind, room) => together(kind, room, ['Ada'], async ([a], open) => {
  const b = await Page.open(await shared(kind), '/');
  const focused = () => b.page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName);
  /** Presses Tab until `id` has the focus, and looks that the focus can be seen on the way. */
  const tabTo = async (id, key = 'Tab') => {
    const passed = [];
    for (let i = 0; i < 40; i++) {
      await b.page.keyboard.press(key);
      const at = await focused();
      passed.push(at);
      const seen = await b.page.evaluate(() => {
        const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
        return document.activeElement === document.body || (outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2);
      });
      assert(seen, `the focus on ${at} can't be seen`);
      if (at === id) return;
    }
    throw new Error(`${key} does not lead to ${id}: ${passed.join(' ')}`);
  };
  const press = (key) => b.page.keyboard.press(key);
  try {
    await tabTo('room');
    await press('Control+A');
    await b.page.keyboard.type(room);
    await tabTo('name');
    await b.page.keyboard.type('Bob');
    await press('Enter');
    for (const it of [a, b]) await it.connected(1);
    await tabTo('mic');
    await press('Space');
    await b.page.waitForSelector('#mic[data-on="true"]');
    await tabTo('devices');
    await press('Enter');
    await b.page.waitForSelector('#device-dialog[open]');
    if (await focused() !== 'choose-mic') await tabTo('choose-mic'); // without a camera it comes first
    await press('Escape');
    await b.page.waitForSelector('#device-dialog:not([open])', { state: 'attached' });
    assert.equal(await focused(), 'devices', 'the focus goes back to where the dialog was opened');
    await tabTo('text');
    await b.page.keyboard.type('typed');
    await press('Enter');
    await a.until('the line', (s) => s.messages.some((m) => m.from === 'Bob' && m.text === 'typed'));
    await tabTo('leave', 'Shift+Tab');
    await press('Enter');
    await b.page.waitForSelector('body[data-view="lobby"]');
    assert.equal(await focused(), 'room', 'the focus goes to where one goes on');
    b.check();
  } finally {
    await b.close();
  }
}, { query: '&media=' }));

tests['pages devices'] = () => together('chromium', 'devices', ['Ada', 'Bob'], async ([a, b]) => {
  for (const it of [a, b]) await it.connected(1);
  await a.page.click('#devices');
  await a.page.waitForSelector('#device-dialog[open]');
  const cameras = await a.page.$$eval('#choose-camera option', (options) => options.map(({ value, label }) => ({ value, label })));
  assert(cameras.length === 2 && cameras.every(({ label }) => label), JSON.stringify(cameras));
  const used = () => a.page.$eval('#local-video', (v) => v.srcObject?.getVideoTracks()[0]?.getSettings().deviceId);
  const other = cameras.find(({ value }) => value !== cameras[0].value).value;
  await a.page.selectOption('#choose-camera', other);
  for (let i = 0; i < 100 && await used() !== other; i++) await pause(100);
  assert.equal(await used(), other);
  await a.page.click('#devices-done');
  // It is remembered.
  await a.page.reload();
  await a.connected(1);
  for (let i = 0; i < 100 && await used() !== other; i++) await pause(100);
  assert.equal(await used(), other);
}, { allowed: LOST });

each('screen', (kind, room) => together(kind, room, ['Ada', 'Bob'], async ([a, b]) => {
  await a.connected(1);
  // A headless browser has no screen to share: a canvas stands in for it.
  await a.page.evaluate(() => {
    const canvas = document.createElement('canvas');
    canvas.width = 320;
    canvas.height = 200;
    canvas.getContext('2d');
    setInterval(() => canvas.getContext('2d').fillRect(Math.random() * 300, 0, 20, 200), 50);
    navigator.mediaDevices.getDisplayMedia = async () => canvas.captureStream(20);
  });
  const size = () => b.page.$eval('figure[data-peer] video', (v) => `${v.videoWidth}x${v.videoHeight}`);
  const camera = await size();
  await a.page.click('#screen');
  for (let i = 0; i < 200 && await size() !== '320x200'; i++) await pause(100);
  assert.equal(await size(), '320x200');
  assert.equal(await a.page.getAttribute('#screen', 'data-on'), 'true');
  await a.page.click('#screen');
  for (let i = 0; i < 200 && await size() === '320x200'; i++) await pause(100);
  assert.notEqual(await size(), '320x200', `the camera is back (${camera})`);
}));

/** A pair in each browser that can't connect: what the page says of it, and what the server learns. */
async function withoutPath(daemon, name, change, words, { init, meanwhile = () => {} } = {}) {
  await daemon.stop();
  await daemon.start(change);
  const pair = (kind) => together(kind, `${name}-${kind}`, [], async (pages, open) => {
    for (const who of ['Ada', 'Bob']) await open(who, '', { init });
    let said = '';
    for (const end = Date.now() + 40000; Date.now() < end && !words.test(said); await pause(200)) {
      said = (await Promise.all(pages.map((it) => it.page.$$eval('#people .why:not([hidden])', ([why]) => why?.firstChild.data ?? '')))).join('\n');
    }
    assert.match(said, words);
    for (const it of pages) assert.match(await it.text('#status'), /^Found no path to (Ada|Bob), trying again$/);
    await pages[0].shot(`${name}-${kind}`);
  }, { query: '&media=&policy=relay', allowed: [/ICE failed/] });
  try {
    const ends = await Promise.allSettled([...KINDS.map(pair), meanwhile()]);
    for (const { reason } of ends) if (reason) throw reason;
    const metrics = await fetch('http://127.0.0.1:9643/metrics').then((reply) => reply.text());
    const failures = metrics.match(/^ternd_client_reports\S*state="failed"\S* (\d+)$/m)?.[1];
    assert(failures >= KINDS.length, `the server has heard of ${failures} failures`);
  } finally {
    await daemon.stop();
    await daemon.start();
  }
}

// One relay is all that there is: what else is asked for is refused, and both pages say why.
tests['pages no path: relays in use'] = (daemon) => withoutPath(daemon, 'in-use', { limits: { allocations: 1 } },
  /^No path to \w+\. The relay refused: all relays that one may have are in use \(486\)\.$/m,
  { meanwhile: () => Promise.all(KINDS.map(async (kind) => {
    const it = await Page.open(await shared(kind), '/diagnostics?auto=1&lang=en');
    await it.page.waitForFunction(() => /refused: all relays that one may have are in use \(486\)/.test(document.querySelector('#urls').textContent), null, { timeout: 60000 });
    await it.page.waitForFunction(() => window.diagnostics, null, { timeout: 60000 });
    assert.match(await it.text('#call-note'), /did not connect: .|no relay to try/);
    it.check([/ICE failed/]);
    await it.close();
  })) });

tests['pages no path: none issued'] = (daemon) => withoutPath(daemon, 'none-issued', { ice: { issue: 'never' } },
  /^No path to \w+\. The server offers no relay, so only direct paths were tried: You may not use the relay of this server\.$/m,
  { init: () => {
    // The test before this one has waited the 15 s.
    const real = window.setTimeout;
    window.setTimeout = (act, ms, ...more) => real(act, ms === 15000 ? 3000 : ms, ...more);
  } });

if (KINDS.length > 1) {
  tests['pages mixed'] = () => together(['chromium', 'firefox', 'chromium'], 'mixed', ['Ada', 'Bob', 'Eve'], async (pages) => {
    for (const it of pages) {
      await it.connected(2);
      await it.until('video of both', video);
    }
    await chat(pages[1], pages[0], 'from one browser to the other');
    await chat(pages[0], pages[1], 'and back');
  });
}

module.exports = { KINDS, LOST, chat, tests, together };
