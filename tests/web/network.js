// The network of the namespace, as a test wants it.
'use strict';
const { spawnSync } = require('child_process');

function nft(script) {
  const run = spawnSync('nft', ['-f', '-'], { input: script, encoding: 'utf8', env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } });
  if (run.status !== 0) throw new Error(`nft: ${run.error ?? run.stderr}`);
}

/** Runs `act` while no datagram arrives, and nothing to or from these TCP ports: nobody is told, as when a cable is out. */
async function cut(ports, act) {
  const list = `{ ${ports.join(', ')} }`;
  nft(`table inet cut {
    chain arriving {
      type filter hook input priority 0
      meta l4proto udp counter drop
      tcp dport ${list} counter drop
      tcp sport ${list} counter drop
    }
  }`);
  try {
    return await act();
  } finally {
    nft('delete table inet cut');
  }
}

module.exports = { cut };
