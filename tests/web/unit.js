// The parts that need no browser, by node's own test runner.
'use strict';
const path = require('path');
const { spawnSync } = require('child_process');

const tests = {};
for (const file of ['client', 'peer', 'probe', 'words', 'package']) {
  tests[`unit ${file}`] = () => {
    const run = spawnSync(process.execPath, ['--test', path.join(__dirname, `${file}.test.mjs`)], { encoding: 'utf8', timeout: 60000 });
    if (run.status !== 0) throw new Error(`${run.stdout}\n${run.stderr}`);
  };
}

module.exports = { tests };
