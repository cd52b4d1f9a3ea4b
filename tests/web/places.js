// Names and addresses in the namespace that tests/web/run makes.
'use strict';
const path = require('path');

const ROOT = path.resolve(__dirname, '../..');

module.exports = {
  ROOT,
  OUTPUT: path.join(ROOT, 'target/web'),
  HOST: '203.0.113.10',
  HOST6: '2001:db8::10',
  NAME: 'turn.test', // has both addresses
  PAGE: 'http://127.0.0.1:8080',
  PAGE_PORT: 8080,
};
