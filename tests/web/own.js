// An operator's own pages: those of the tutorials, the one of the README, and one of another origin.
'use strict';
const assert = require('assert/strict');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const { Page, shared } = require('./browser');
const { KINDS } = require('./pages');
const { PAGE, ROOT } = require('./places');

const OTHER = 'http://127.0.0.1:8090';

const tests = {};

/** Runs `act` while ternd serves these files beside its own pages. */
async function serving(daemon, files, change, act) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'ternd-static-'));
  for (const [name, content] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
    fs.writeFileSync(path.join(directory, name), content);
  }
  await daemon.stop();
  await daemon.start({ http: { 'static-dir': directory }, ...change });
  try {
    return await act();
  } finally {
    await daemon.stop();
    await daemon.start();
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

// As the tutorials have it: inline script, its own copy of socket.io's client.
tests['pages tutorial'] = (daemon) => serving(daemon, {
  'index.html': fs.readFileSync(path.join(__dirname, 'tutorial.html')),
  'js/socket.io.js': fs.readFileSync(require.resolve('socket.io-client-4').replace(/build[\\/].*$/, 'dist/socket.io.min.js')),
}, {}, async () => {
  const browser = await shared('chromium');
  const [a, b] = [await Page.open(browser, '/'), await Page.open(browser, '/')];
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
  await Promise.all([a.close(), b.close()]);
});

// The lines that the README shows, word for word: in a page of this server, and in a page of another origin.
tests['pages readme'] = async (daemon) => {
  const lines = fs.readFileSync(path.join(ROOT, 'README.md'), 'utf8').match(/```js\n(import \* as ternd[\s\S]*?)```/)[1];
  const page = (script) => `<!doctype html><title>own</title><link rel="icon" href="data:,"><video autoplay muted></video><script type="module">${script}</script>`;
  const elsewhere = lines.replace('"/ternd.js"', `"${PAGE}/ternd.js"`).replace('{ room: "demo", stream }', `{ room: "demo", stream, url: "${PAGE}", transport: "sse" }`);
  assert(lines.includes('"/ternd.js"') && elsewhere.includes('sse'), 'the lines of the README have changed');
  const other = http.createServer((request, reply) => reply.setHeader('content-type', 'text/html').end(page(elsewhere)));
  await new Promise((resolve) => { other.listen(new URL(OTHER).port, '127.0.0.1', resolve); });
  const meet = async (kinds, urls) => {
    const pages = [];
    for (const [i, kind] of kinds.entries()) pages.push(await Page.open(await shared(kind), urls[i]));
    await Promise.all(pages.map((it) => it.page.waitForFunction(() => document.querySelector('video').videoWidth > 0, null, { timeout: 30000 })))
      .catch((error) => { throw new Error(`${error.message}\n${pages.flatMap((it) => it.complaints).join('\n')}`); });
    for (const it of pages) {
      it.check();
      await it.close();
    }
  };
  const kinds = [KINDS[0], KINDS.at(-1)];
  try {
    await serving(daemon, { 'own.html': page(lines) }, { ice: { origins: [OTHER] } }, async () => {
      await meet(kinds, ['/own.html', '/own.html']);
      await meet(kinds, [OTHER, '/own.html']);
      await meet(kinds, ['/own.html', OTHER]);
    });
  } finally {
    other.close();
  }
};

module.exports = { tests };
