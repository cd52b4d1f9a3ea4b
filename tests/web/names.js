// A name server for the one name of the tests: it has an address of each family.
'use strict';
const dgram = require('dgram');
const { HOST, NAME } = require('./places');

const ADDRESS = {
  1: Buffer.from(HOST.split('.').map(Number)), // A
  28: Buffer.from('20010db8000000000000000000000010', 'hex'), // AAAA: HOST6
};

/** RFC 1035 section 4: the answer to a query of one question. */
function answer(query) {
  let at = 12;
  const labels = [];
  while (query[at] > 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + query[at]));
    at += 1 + query[at];
  }
  const question = query.subarray(12, at + 5);
  const known = labels.join('.').toLowerCase() === NAME;
  const address = known ? ADDRESS[query.readUInt16BE(at + 1)] : undefined;
  const header = Buffer.from([query[0], query[1], 0x85, known ? 0x80 : 0x83, 0, 1, 0, address ? 1 : 0, 0, 0, 0, 0]);
  if (!address) return Buffer.concat([header, question]);
  const record = Buffer.from([0xc0, 12, 0, query[at + 2], 0, 1, 0, 0, 0, 60, 0, address.length]);
  return Buffer.concat([header, question, record, address]);
}

function serve() {
  const socket = dgram.createSocket('udp4');
  socket.on('message', (query, from) => socket.send(answer(query), from.port, from.address));
  return new Promise((resolve, reject) => { socket.once('error', reject).bind(53, '127.0.0.1', () => resolve(socket.unref())); });
}

module.exports = { serve };
