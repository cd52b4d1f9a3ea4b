// Runs inside a lab node and drives one browser. Requests and answers are JSON lines:
//   stdin   {"id":1,"what":"goto","args":{"url":"https://..."}}
//   stdout  {"id":1,"result":...} or {"id":1,"error":"..."}, and {"console":"..."} for what the page complains about
'use strict';
const path = require('path');
const readline = require('readline');
const { launch } = require(path.join(process.env.NATLAB_DIR, 'launch.js'));

const send = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
let browser;

const requests = {
  async launch({ ca }) {
    browser = await launch('chromium', { ca });
    browser.page.setDefaultTimeout(10000);
    browser.page.on('pageerror', (error) => send({ console: `thrown: ${error.stack}` }));
    browser.page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) send({ console: `${message.type()}: ${message.text()}` });
    });
  },
  goto: ({ url }) => browser.page.goto(url).then(() => {}),
  /** What the diagnostics page finds. */
  async diagnostics({ url }) {
    await browser.page.goto(url);
    return (await browser.page.waitForFunction(() => window.diagnostics, null, { timeout: 90000 })).jsonValue();
  },
  reload: () => browser.page.reload().then(() => {}),
  snapshot: () => browser.page.evaluate(() => window.ternd.snapshot()),
  async chat({ text }) {
    await browser.page.fill('#text', text);
    await browser.page.press('#text', 'Enter');
  },
  screenshot: ({ path: file }) => browser.page.screenshot({ path: file, fullPage: true }).then(() => {}),
};

// One after the other, in the order of arrival.
let queue = Promise.resolve();
const input = readline.createInterface({ input: process.stdin });
input.on('line', (line) => {
  const { id, what, args } = JSON.parse(line);
  queue = queue.then(() => requests[what](args))
    .then((result) => send({ id, result }), (error) => send({ id, error: `${what}: ${error.message}` }));
});
input.on('close', () => {
  queue.then(() => browser?.close()).finally(() => process.exit(0));
});
