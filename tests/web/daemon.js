// One ternd on fixed addresses of the namespace that tests/web/run makes.
'use strict';
const fs = require('fs');
const path = require('path');
const { execFileSync, spawn } = require('child_process');

const { HOST, HOST6, NAME, OUTPUT, PAGE, PAGE_PORT, ROOT } = require('./places');
const { CERTIFICATE, KEY } = require('./certificate');
const BINARY = process.env.TERND ?? path.join(ROOT, 'target/debug/ternd');

const BASE = {
  host: NAME,
  'drain-timeout': '0s', // browsers that were closed leave allocations behind
  listen: { udp: [`${HOST}:3478`, `[${HOST6}]:3478`], tcp: [`${HOST}:3478`, `[${HOST6}]:3478`], tls: [`${HOST}:8443`, `[${HOST6}]:8443`], http: [`127.0.0.1:${PAGE_PORT}`] },
  tls: { certificate: CERTIFICATE, key: KEY },
  auth: { secret: 'a secret of these tests, and of nothing else' },
  relay: { addresses: [HOST, HOST6] },
  peers: { allow: ['203.0.113.0/24', '2001:db8::/32'] },
  limits: { 'handshake-timeout': '10s' },
  rooms: { capacity: 8 },
  log: { level: 'debug', format: 'text' },
};

const toml = (value) => (Array.isArray(value) ? `[${value.map(toml).join(', ')}]` : JSON.stringify(value));

function written(config) {
  const plain = Object.entries(config).filter(([, value]) => typeof value !== 'object' || Array.isArray(value));
  const tables = Object.entries(config).filter(([, value]) => typeof value === 'object' && !Array.isArray(value));
  const lines = (entries) => entries.map(([key, value]) => `${key} = ${toml(value)}`);
  return [...lines(plain), ...tables.flatMap(([name, table]) => [`[${name}]`, ...lines(Object.entries(table))])].join('\n');
}

class Daemon {
  constructor(name) {
    this.name = name;
    this.log = path.join(OUTPUT, `${name}-ternd.log`);
  }

  /** Starts it and waits until it serves. `change` is laid over the base configuration, table by table. */
  async start(change = {}) {
    const config = { ...BASE };
    for (const [key, value] of Object.entries(change)) {
      config[key] = typeof value === 'object' && !Array.isArray(value) ? { ...BASE[key], ...value } : value;
    }
    fs.mkdirSync(OUTPUT, { recursive: true });
    const file = path.join(OUTPUT, `${this.name}.toml`);
    fs.writeFileSync(file, written(config), { mode: 0o600 });
    const log = fs.openSync(this.log, 'a');
    this.child = spawn(BINARY, ['serve', '--config', file], { stdio: ['ignore', log, log] });
    fs.closeSync(log);
    let ended = false;
    this.ended = new Promise((resolve) => { this.child.on('exit', () => { ended = true; resolve(); }); });
    for (let tries = 0; tries < 300 && !ended; tries++) {
      const ready = await fetch(`${PAGE}/readyz`).then((reply) => reply.ok, () => false);
      if (ready) return this;
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    await this.stop();
    throw new Error(`ternd does not serve. Its log:\n${fs.readFileSync(this.log, 'utf8')}`);
  }

  /** What a command of ternd prints that ends with the name of the configuration. */
  ternd(args) {
    return execFileSync(BINARY, [...args, path.join(OUTPUT, `${this.name}.toml`)], { encoding: 'utf8' });
  }

  async stop() {
    this.child.kill('SIGTERM');
    // Browsers keep connections that they never use, and it waits some seconds for those.
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 1000);
    await this.ended;
    clearTimeout(timer);
  }
}

module.exports = { Daemon, HOST, OUTPUT, PAGE };
