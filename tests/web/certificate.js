// A certificate for the tests' name, and an authority that the browsers are told to trust, made for this run.
'use strict';
const fs = require('fs');
const path = require('path');
const { execFileSync } = require('child_process');
const { OUTPUT, NAME } = require('./places');

const file = (name) => path.join(OUTPUT, name);
const [AUTHORITY, CERTIFICATE, KEY] = ['authority.pem', 'certificate.pem', 'key.pem'].map(file);

function request(name, key, certificate, ...more) {
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', `/CN=${name}`, '-keyout', key, '-out', certificate, ...more], { stdio: 'pipe' });
}

function make() {
  fs.mkdirSync(OUTPUT, { recursive: true });
  const key = file('authority-key.pem');
  request('the tests of ternd', key, AUTHORITY, '-addext', 'basicConstraints=critical,CA:TRUE');
  request(NAME, KEY, CERTIFICATE, '-CA', AUTHORITY, '-CAkey', key,
    '-addext', `subjectAltName=DNS:${NAME}`, '-addext', 'basicConstraints=critical,CA:FALSE', '-addext', 'extendedKeyUsage=serverAuth');
}

module.exports = { AUTHORITY, CERTIFICATE, KEY, make };
