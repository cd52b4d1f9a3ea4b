// An operator's own page with the client script of the tutorials, beside the built-in pages.
'use strict';
const assert = require('assert/strict');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { Page, shared } = require('./browser');
const { PAGE } = require('./places');

const tests = {};

tests['pages tutorial'] = async (daemon) => {
  // An operator's own page, as the tutorials have it: inline script, its own copy of socket.io's client.
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'ternd-static-'));
  const client = require.resolve('socket.io-client-4').replace(/build[\\/].*$/, 'dist/socket.io.min.js');
  fs.mkdirSync(path.join(directory, 'js'));
  fs.copyFileSync(client, path.join(directory, 'js/socket.io.js'));
  fs.writeFileSync(path.join(directory, 'index.html'), fs.readFileSync(path.join(__dirname, 'tutorial.html')));
  await daemon.stop();
  await daemon.start({ http: { 'static-dir': directory } });
  const browser = await shared('chromium');
  try {
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
  } finally {
    await daemon.stop();
    await daemon.start();
    fs.rmSync(directory, { recursive: true, force: true });
  }
};

module.exports = { tests };
