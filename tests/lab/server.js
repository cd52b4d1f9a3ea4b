// ternd in the lab, on the node `server`: as a bare program, or as the package on a machine with systemd.
'use strict';
const fs = require('fs');
const path = require('path');
const { spawnSync } = require('child_process');
const { HOST, NATLAB, STATE } = require('./lab');

/** The lab's public addresses are documentation ranges, which ternd keeps closed; private ones stay closed. */
const config = (tls) => `
host = "${HOST}"
[listen]
tls = ["0.0.0.0:443", "[::]:443"]
[tls]
certificate = "${tls}.pem"
key = "${tls}.key"
[auth]
secret = "a secret of the lab, and of nothing else"
[relay]
addresses = ["203.0.113.10", "2001:db8::10"]
[peers]
allow = ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"]
[log]
level = "debug"
`;

/** The binary, as a program of natlab. */
class Program {
  constructor(binary) {
    this.binary = binary;
  }

  start(lab) {
    this.lab = lab;
    const file = path.join(lab.output, 'ternd.toml');
    fs.writeFileSync(file, `${config(`${STATE}/tls/server`)}format = "text"\n`, { mode: 0o600 });
    lab.natlab('spawn', 'server', 'ternd', this.binary, 'serve', '--config', file);
  }

  stop() {
    this.lab.natlab('stop', 'ternd');
  }

  log() {
    return this.lab.natlab('log', 'ternd');
  }

  /** natlab ends what it has spawned. */
  down() {}
}

/** The Debian package, installed on a machine that boots systemd (vpslab) on the network of `server`. */
class Service {
  constructor({ vpslab, binary, root }) {
    Object.assign(this, { vpslab: path.join(vpslab, 'vpslab'), binary, root });
  }

  start(lab) {
    const built = spawnSync(path.join(this.root, 'packaging/build-deb'), ['--binary', this.binary, '--fast', lab.output],
      { encoding: 'utf8' });
    if (built.status !== 0) throw new Error(`packaging/build-deb: ${built.stderr}`);
    this.down();
    this.lab('up', '--netns', `${NATLAB}-server`);
    this.lab('push', built.stdout.trim().split('\n').at(-1), '/srv/ternd.deb');
    this.exec('env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', 'install', '-qqy', '/srv/ternd.deb');
    for (const file of ['server.pem', 'server.key']) {
      this.write(`/etc/ternd/${file}`, fs.readFileSync(`${STATE}/tls/${file}`));
    }
    this.configure(config('server'));
    this.exec('systemctl', 'restart', 'ternd');
  }

  /** vpslab itself; complains with what it said. */
  lab(...args) {
    const p = this.try(args);
    if (p.status !== 0) throw new Error(`vpslab ${args.join(' ')}: ${p.stdout}${p.stderr}`);
    return p.stdout;
  }

  try(args, input) {
    return spawnSync('timeout', ['120', this.vpslab, ...args], { encoding: 'utf8', input });
  }

  /** Runs a program on the machine. */
  exec(...command) {
    return this.lab('exec', ...command);
  }

  /** The same where it may fail: its status and what it printed. */
  attempt(...command) {
    const { status, stdout, stderr } = this.try(['exec', ...command]);
    return { status, text: `${stdout}${stderr}`.trim() };
  }

  /** A file that the service may read, and nobody else. */
  write(file, content) {
    const command = `install -m 640 -g ternd /dev/null ${file} && cat >${file}`;
    const p = this.try(['exec', 'sh', '-c', command], content);
    if (p.status !== 0) throw new Error(`${file}: ${p.stderr}`);
  }

  /** Writes ternd.toml, without a word to the service. */
  configure(toml) {
    this.toml = toml;
    this.write('/etc/ternd/ternd.toml', toml);
  }

  /** What systemd says of the service. */
  show(property) {
    return this.exec('systemctl', 'show', 'ternd', '-p', property, '--value').trim();
  }

  ctl(...command) {
    return JSON.parse(this.exec('ternd', 'ctl', '--json', ...command));
  }

  stop() {
    this.exec('systemctl', 'stop', 'ternd');
  }

  log() {
    return this.exec('journalctl', '-u', 'ternd', '--no-pager');
  }

  down() {
    this.try(['down']);
  }
}

module.exports = { Program, Service };
