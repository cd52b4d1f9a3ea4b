// Chromium and Firefox as the distribution ships them, and pages that are watched.
'use strict';
const fs = require('fs');
const os = require('os');
const path = require('path');
const { execFileSync } = require('child_process');
const playwright = require('playwright-core');
const { OUTPUT, PAGE } = require('./daemon');
const { AUTHORITY } = require('./certificate');

const CHROMIUM = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--use-fake-device-for-media-stream=device-count=2', '--auto-select-desktop-capture-source=Entire screen',
  '--disable-features=WebRtcHideLocalIpsWithMdns'];
const FIREFOX = {
  'media.navigator.streams.fake': true, 'media.getusermedia.screensharing.enabled': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false, 'media.gmp-manager.updateEnabled': false, 'network.http.http3.enable': false,
};
/** The answer to whoever asks for camera and microphone. */
const ASKED = {
  granted: { chromium: ['--use-fake-ui-for-media-stream'], firefox: { 'media.navigator.permission.disabled': true } },
  refused: {
    chromium: ['--use-fake-ui-for-media-stream=deny'],
    firefox: { 'permissions.default.camera': 2, 'permissions.default.microphone': 2 },
  },
};
const BINARY = { chromium: '/usr/bin/chromium', firefox: '/usr/bin/firefox-esr' };
const has = (kind) => fs.existsSync(BINARY[kind]);

/** Puts the tests' certificate among those that a browser trusts: `db` is its NSS database, in shell words. */
const trust = (db) => `mkdir -p ${db} && certutil -N -d sql:${db} --empty-password && certutil -A -d sql:${db} -n ternd -t C,, -i '${AUTHORITY}'`;

async function launch(kind, { devices = 'granted' } = {}) {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'ternd-web-'));
  const env = { ...process.env, HOME: home, TMPDIR: home, XDG_CONFIG_HOME: home, XDG_CACHE_HOME: home };
  const settings = { headless: true, env, executablePath: BINARY[kind], timeout: 60000 };
  const asked = ASKED[devices][kind];
  let browser;
  if (kind === 'chromium') {
    execFileSync('sh', ['-c', trust(`'${home}/.pki/nssdb'`)]);
    browser = await playwright.chromium.launch({ ...settings, args: [...CHROMIUM, ...asked] });
  } else {
    // The database belongs into the profile, and Playwright makes that: so a script comes in between.
    const between = path.join(home, 'firefox');
    fs.writeFileSync(between, `#!/bin/sh\nset -e\nfor arg; do [ "\${last:-}" = --profile ] && profile=$arg; last=$arg; done\n${trust('"$profile"')}\nexec ${BINARY.firefox} "$@"\n`, { mode: 0o755 });
    browser = await playwright.firefox.launch({ ...settings, executablePath: between, channel: 'moz-firefox', firefoxUserPrefs: { ...FIREFOX, ...asked } });
  }
  return {
    kind,
    browser,
    async close() {
      await browser.close().catch(() => {});
      fs.rmSync(home, { recursive: true, force: true, maxRetries: 20 });
    },
  };
}

// One browser of a kind serves test after test: each page has a context of its own.
const running = new Map();

async function shared(kind) {
  if (running.get(kind)?.browser.isConnected()) return running.get(kind);
  await running.get(kind)?.close();
  running.set(kind, await launch(kind));
  return running.get(kind);
}

async function closeAll() {
  await Promise.all([...running.values()].map((each) => each.close()));
  running.clear();
}

/** A page of its own (its own context), whose complaints are kept. */
class Page {
  static async open(browser, url, { init, ...options } = {}) {
    const it = new Page();
    it.kind = browser.kind;
    it.context = await browser.browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    if (init) await it.context.addInitScript(init);
    it.page = await it.context.newPage();
    it.page.setDefaultTimeout(20000);
    it.complaints = [];
    it.hosts = new Set();
    it.page.on('request', (request) => it.hosts.add(new URL(request.url()).host));
    it.page.on('pageerror', (error) => it.complaints.push(`thrown: ${error.stack ?? error}`));
    it.page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) it.complaints.push(`${message.type()}: ${message.text()}`);
    });
    await it.page.goto(url.startsWith('http') ? url : `${PAGE}${url}`);
    return it;
  }

  snapshot() { return this.page.evaluate(() => window.ternd.snapshot()); }

  /** Waits until the snapshot passes the test. */
  async until(what, test, ms = 30000) {
    let last;
    for (const end = Date.now() + ms; Date.now() < end;) {
      last = await this.snapshot();
      if (test(last)) return last;
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
    const { log, ...rest } = last;
    throw new Error(`${what}: not within ${ms / 1000} s\n${JSON.stringify(rest, null, 1)}\n${log.slice(-25).join('\n')}\n${this.complaints.join('\n')}`);
  }

  connected(count, ms) {
    return this.until(`connected to ${count}`, (s) => s.peers.length === count
      && s.peers.every((p) => p.connectionState === 'connected' && p.channel === 'open'), ms);
  }

  text(selector) { return this.page.textContent(selector); }

  /** Waits until the notice says this. */
  async notice(pattern) {
    const said = async () => (await this.page.isVisible('#notice') ? this.text('#notice') : '');
    for (let tries = 0; tries < 200 && !pattern.test(await said()); tries++) await this.page.waitForTimeout(100);
    if (!pattern.test(await said())) throw new Error(`the notice is '${await said()}', not ${pattern}`);
  }

  async shot(name) {
    const before = this.complaints.length;
    await this.page.screenshot({ path: path.join(OUTPUT, `${name}.png`), fullPage: true, caret: 'initial' });
    // For a screenshot Playwright puts a style of its own into Firefox's page, which the page's policy stops.
    const added = this.complaints.splice(before);
    this.complaints.push(...added.filter((line) => !/blocked an inline style/.test(line)));
  }

  /** Nothing was thrown, nothing was stopped by the policy, nothing was an error on the console. */
  check(allowed = []) {
    const bad = this.complaints.filter((line) => !line.startsWith('warning: ') || /Content[- ]Security[- ]Policy/i.test(line));
    const worst = bad.find((line) => !allowed.some((pattern) => pattern.test(line)));
    if (worst) throw new Error(`the page complained: ${worst}`);
  }

  close() { return this.context.close(); }
}

module.exports = { Page, closeAll, has, launch, shared };
