// Runs the tests one after the other; prints a line for each. Exit status 0 only if all passed.
'use strict';
const fs = require('fs');
const { closeAll } = require('./browser');
const certificate = require('./certificate');
const { Daemon, OUTPUT } = require('./daemon');
const nameServer = require('./names');

const FILES = ['./unit', './socketio', './pages', './looks', './diagnostics', './own'];

async function main(args) {
  const tests = Object.assign({}, ...FILES.map((file) => require(file).tests));
  const names = Object.keys(tests).filter((name) => args.length === 0 || args.some((arg) => name.includes(arg)));
  if (args.includes('--list')) return Object.keys(tests).forEach((name) => console.log(name));
  if (names.length === 0) throw new Error(`no test is called like ${args.join(' or ')}; --list shows them`);
  fs.rmSync(OUTPUT, { recursive: true, force: true });
  certificate.make();
  await nameServer.serve();
  const daemon = await new Daemon('web').start();
  process.on('exit', () => daemon.child.kill('SIGKILL'));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(130));
  const started = Date.now();
  let failed = 0;
  for (const name of names) {
    const begin = Date.now();
    let trouble = null;
    let note = '';
    try {
      note = await tests[name](daemon) ?? '';
    } catch (error) {
      failed++;
      trouble = error;
    }
    const seconds = ((Date.now() - begin) / 1000).toFixed(1).padStart(5);
    console.log(`${trouble ? 'FAIL' : 'ok  '} ${seconds} s  ${name}${note && `  (${note})`}${trouble ? `\n${trouble.stack}` : ''}`);
  }
  console.log(`${failed ? `${failed} of ${names.length} failed` : `all ${names.length} passed`}, in ${((Date.now() - started) / 1000).toFixed(0)} s`);
  await closeAll();
  await daemon.stop();
  process.exit(failed ? 1 : 0);
}

main(process.argv.slice(2)).catch((error) => { console.error(error.stack); process.exit(2); });
