// The lab as the scenarios see it: the network, ternd in it, and browsers in its nodes.
'use strict';
const fs = require('fs');
const path = require('path');
const readline = require('readline');
const { spawn, spawnSync } = require('child_process');

const NATLAB = process.env.NATLAB ?? 'ternd-lab';
const STATE = `/run/natlab/${NATLAB}`;
const HOST = 'turn.natlab.test';

/** Who sits behind which NAT. All of them at once, so that no scenario has to rebuild anything. */
const PEERS = {
  alice: 'symmetric', bob: 'symmetric', carol: 'udp-blocked', dave: 'https-only',
  erin: 'port-restricted', frank: 'port-restricted',
};

const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

class Lab {
  /** natlab: its folder; server: how ternd is run (server.js); output: a folder for what helps after a failure. */
  constructor({ natlab, server, output }) {
    Object.assign(this, { folder: natlab, server, output, browsers: [] });
    this.env = {
      ...process.env, NATLAB, NODE_PATH: path.join(__dirname, 'node_modules'), NATLAB_DIR: natlab,
    };
  }

  natlab(...args) {
    const p = spawnSync(path.join(this.folder, 'natlab'), args, { env: this.env, encoding: 'utf8' });
    if (p.status !== 0) throw new Error(`natlab ${args.join(' ')}: ${p.stderr ?? p.error}`);
    return p.stdout;
  }

  up() {
    fs.rmSync(this.output, { recursive: true, force: true });
    fs.mkdirSync(this.output, { recursive: true });
    const peers = Object.entries(PEERS).flatMap(([name, kind]) =>
      (['alice', 'bob'].includes(name) ? [`--${name}`, kind] : ['--peer', `${name}=${kind}`]));
    this.natlab('up', ...peers);
  }

  down() {
    for (const browser of this.browsers) browser.kill();
    this.server.down();
    this.natlab('down');
  }

  /** Starts ternd and waits until it is ready to serve. */
  async startTernd() {
    this.server.start(this);
    const poll = `const ask = () => fetch('https://${HOST}/readyz')
      .then((r) => { if (r.ok) process.exit(); }).catch(() => {}).then(() => setTimeout(ask, 100));
      ask(); setTimeout(() => process.exit(1), 10000);`;
    const p = spawnSync(path.join(this.folder, 'natlab'), ['exec', 'server', process.execPath, '-e', poll],
      { env: { ...this.env, NODE_EXTRA_CA_CERTS: `${STATE}/tls/ca.pem` } });
    if (p.status !== 0) throw new Error(`ternd is not ready after 10 s. Its log:\n${this.terndLog()}`);
  }

  stopTernd() {
    fs.writeFileSync(path.join(this.output, 'ternd-before-stop.log'), this.terndLog());
    this.server.stop();
  }

  terndLog() {
    try {
      return this.server.log();
    } catch (error) {
      return `no log: ${error.message}`;
    }
  }

  /** Opens the demo page in a browser in `node`; `options` become the page's options. */
  async open(node, room, options = {}) {
    const browser = new Browser(this, node);
    this.browsers.push(browser);
    const query = new URLSearchParams({ auto: '1', name: node, ...options });
    browser.url = `https://${HOST}/r/${room}?${query}`;
    await browser.ask('launch', { ca: `${STATE}/tls/ca.pem` });
    await browser.ask('goto', { url: browser.url });
    return browser;
  }

  /** What the diagnostics page says in `node`. */
  async diagnose(node) {
    const browser = new Browser(this, node);
    this.browsers.push(browser);
    await browser.ask('launch', { ca: `${STATE}/tls/ca.pem` });
    return browser.ask('diagnostics', { url: `https://${HOST}/diagnostics?auto=1` });
  }

  /** No page may have thrown, or have been stopped by its Content-Security-Policy. */
  checkPages() {
    for (const { node, console } of this.browsers) {
      const worst = console.find((line) => line.startsWith('thrown: ') || /Content[- ]Security[- ]Policy/i.test(line));
      if (worst) throw new Error(`the page in ${node}: ${worst}`);
    }
  }

  async closeBrowsers() {
    await Promise.all(this.browsers.splice(0).map((browser) => browser.close()));
  }

  /** After a failure: what each page showed and logged, and what ternd logged. */
  async keepEvidence(scenario) {
    fs.writeFileSync(path.join(this.output, `${scenario}-ternd.log`), this.terndLog());
    for (const browser of this.browsers) {
      const file = path.join(this.output, `${scenario}-${browser.node}`);
      try {
        await browser.ask('screenshot', { path: `${file}.png` });
        const { log, ...rest } = await browser.snapshot();
        fs.writeFileSync(`${file}.log`, `${JSON.stringify(rest, null, 1)}\n${log.join('\n')}\n${browser.console.join('\n')}\n`);
      } catch (error) {
        fs.writeFileSync(`${file}.log`, `${error.stack}\n${browser.console.join('\n')}\n`);
      }
    }
  }
}

/** A browser in a node of the lab, driven through browser.js over a pipe. */
class Browser {
  constructor(lab, node) {
    this.node = node;
    this.console = []; // what the page complained about
    this.waiting = new Map();
    this.lastId = 0;
    this.child = spawn(path.join(lab.folder, 'natlab'), ['exec', node, process.execPath, path.join(__dirname, 'browser.js')],
      { env: lab.env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.child.stdin.on('error', () => {});
    this.ended = new Promise((resolve) => { this.child.on('exit', resolve); });
    this.ended.then(() => this.fail(new Error(`the browser in ${node} ended`)));
    readline.createInterface({ input: this.child.stdout }).on('line', (line) => {
      const { id, result, error, console: complaint } = JSON.parse(line);
      if (complaint) this.console.push(complaint);
      const wait = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) wait?.reject(new Error(`${node}: ${error}`));
      else wait?.resolve(result);
    });
  }

  fail(error) {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  ask(what, args = {}) {
    return new Promise((resolve, reject) => {
      const id = ++this.lastId;
      this.waiting.set(id, { resolve, reject });
      this.child.stdin.write(`${JSON.stringify({ id, what, args })}\n`);
    });
  }

  /** What `window.ternd.snapshot()` says (see web/app.js). */
  snapshot() {
    return this.ask('snapshot');
  }

  /** Waits until `test(snapshot)` is true and returns the snapshot; complains with `what` was waited for. */
  async until(what, test, ms = 20000) {
    const end = Date.now() + ms;
    let snapshot;
    while (Date.now() < end) {
      snapshot = await this.snapshot();
      if (test(snapshot)) return snapshot;
      await sleep(100);
    }
    const peer = snapshot.peers[0];
    const state = peer ? `${peer.iceConnectionState}, ${peer.path?.words ?? 'no path'}, ${peer.framesDecoded} frames` : 'no peer';
    throw new Error(`${this.node}: ${what}: not within ${ms / 1000} s (room ${snapshot.state}, ${state})`);
  }

  kill() {
    this.child.kill('SIGKILL');
  }

  async close() {
    this.child.stdin.end();
    const timer = setTimeout(() => this.kill(), 10000);
    await this.ended;
    clearTimeout(timer);
  }
}

module.exports = { HOST, Lab, NATLAB, STATE, sleep };
