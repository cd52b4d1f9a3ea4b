// socket.io clients as they come from npm, against /socket.io/.
'use strict';
const assert = require('assert/strict');
const { Daemon, PAGE } = require('./daemon');

const CLIENTS = { '3.0.4': require('socket.io-client-3').io, '4.x': require('socket.io-client-4').io };
const TRANSPORTS = { polling: ['polling'], websocket: ['websocket'], upgraded: ['polling', 'websocket'] };
const EVENTS = ['created', 'join', 'joined', 'full', 'ready', 'message', 'log', 'disconnect', 'connect_error'];
const MEDIA = 'got user media';

/** A client that keeps what it hears. */
class Client {
  constructor(io, transports) {
    this.heard = [];
    this.looks = new Set();
    this.socket = io(PAGE, { transports, forceNew: true, reconnection: false });
    for (const event of EVENTS) {
      this.socket.on(event, (...args) => {
        this.heard.push([event, ...args.map((arg) => (arg instanceof Error ? arg.message : arg))]);
        this.looked();
      });
    }
    this.socket.on('connect', () => this.looked());
  }

  connected() {
    return this.wait('connect', () => this.socket.connected);
  }

  /** Waits for an event, from those not taken yet. */
  async take(event, ...args) {
    const fits = (it) => it[0] === event && args.every((arg, i) => JSON.stringify(arg) === JSON.stringify(it[i + 1]));
    await this.wait(`${event} ${JSON.stringify(args)}`, () => this.heard.some(fits));
    return this.heard.splice(this.heard.findIndex(fits), 1)[0];
  }

  /** After all listeners of the event have seen it. */
  looked() {
    setImmediate(() => { for (const look of this.looks) look(); });
  }

  wait(what, test) {
    return new Promise((resolve, reject) => {
      const end = (settle, value) => {
        clearTimeout(timer);
        this.looks.delete(look);
        settle(value);
      };
      const look = () => { if (test()) end(resolve); };
      const timer = setTimeout(() => end(reject, new Error(`not within 10 s: ${what}; heard ${JSON.stringify(this.heard)}`)), 10000);
      this.looks.add(look);
      look();
    });
  }

  emit(...args) {
    this.socket.emit(...args);
    return this;
  }

  /** What it heard beside the lines for people; after a way there and back, so that nothing is still under way. */
  async rest() {
    this.emit('create or join', '');
    await this.wait('an echo', () => this.heard.some(([event, lines]) => event === 'log' && /A room's name/.test(lines?.[1])));
    const heard = this.heard.filter(([event]) => event !== 'log');
    this.heard = [];
    return heard;
  }

  close() { this.socket.disconnect(); }
}

/** The tutorial's client without a browser: the rules of its main.js, to the letter. */
class Tutorial {
  constructor(client) {
    Object.assign(this, { client, isInitiator: false, isChannelReady: false, isStarted: false, hasStream: false, offered: 0, answered: 0 });
    const { socket } = client;
    socket.on('created', () => { this.isInitiator = true; });
    socket.on('join', () => { this.isChannelReady = true; });
    socket.on('joined', () => { this.isChannelReady = true; });
    socket.on('message', (message) => {
      if (message === MEDIA) {
        this.maybeStart();
      } else if (message.type === 'offer') {
        if (!this.isInitiator && !this.isStarted) this.maybeStart();
        socket.emit('message', { type: 'answer', sdp: 'v=0' });
        this.answered++;
      } else if (message === 'bye' && this.isStarted) {
        this.isStarted = false;
        this.isInitiator = false;
      } else if (message.type === 'answer' && this.isStarted) {
        this.inCall = true;
      }
    });
  }

  gotStream() {
    this.hasStream = true;
    this.client.emit('message', MEDIA);
    if (this.isInitiator) this.maybeStart();
  }

  maybeStart() {
    if (this.isStarted || !this.hasStream || !this.isChannelReady) return;
    this.isStarted = true;
    if (this.isInitiator) {
      this.offered++;
      this.client.emit('message', { type: 'offer', sdp: 'v=0' });
    }
  }
}

const tests = {};

for (const [version, io] of Object.entries(CLIENTS)) {
  for (const [way, transports] of Object.entries(TRANSPORTS)) {
    tests[`socket.io ${version} ${way}`] = async () => {
      const open = async () => {
        const client = new Client(io, transports);
        clients.push(client);
        await client.connected();
        return client;
      };
      const clients = [];
      try {
        const [a, b, c, d] = [await open(), await open(), await open(), await open()];
        a.emit('create or join', 'foo');
        assert.equal((await a.take('created', 'foo'))[2], a.socket.id);
        b.emit('create or join', 'foo');
        assert.equal((await b.take('joined', 'foo'))[2], b.socket.id);
        await a.take('join', 'foo');
        await a.take('ready');
        await b.take('ready');
        c.emit('create or join', 'foo');
        await c.take('full', 'foo');
        d.emit('create or join', 'bar');
        await d.take('created', 'bar');

        // A flow as of a call, in order, with all that JSON can hold.
        const said = [MEDIA, { type: 'offer', sdp: 'v=0\r\n' }, ...Array.from({ length: 30 }, (_, label) => ({ type: 'candidate', label })), { π: [1.5, null, '会'] }];
        for (const message of said) a.emit('message', message);
        await b.take('message', said.at(-1));
        const heard = (await b.rest()).map(([, message]) => message);
        assert.deepEqual(heard, said.slice(0, -1));
        b.emit('message', { type: 'answer' });
        await a.take('message', { type: 'answer' });

        c.emit('message', 'from one who was refused');
        d.emit('message', 'from another room');
        assert.deepEqual([await a.rest(), await b.rest(), await c.rest(), await d.rest()], [[], [], [], []]);
      } finally {
        for (const client of clients) client.close();
      }
    };
  }

  tests[`socket.io ${version} reload`] = async () => {
    const clients = [];
    const open = async (room) => {
      const client = new Client(io, ['polling', 'websocket']);
      clients.push(client);
      await client.connected();
      const page = new Tutorial(client);
      client.emit('create or join', room);
      await client.wait('a place', () => client.heard.some(([event]) => ['created', 'joined'].includes(event)));
      page.gotStream();
      return page;
    };
    const inCall = async (pages) => {
      for (let tries = 0; !pages.some((page) => page.inCall); tries++) {
        assert(tries < 500, `no call: ${JSON.stringify(pages.map((page) => page.client.heard))}`);
        await new Promise((resolve) => { setTimeout(resolve, 20); });
      }
      for (const page of pages) page.inCall = false;
    };
    try {
      for (const first of [0, 1]) {
        const room = `reload-${first}`;
        const pages = [await open(room), await open(room)];
        await inCall(pages);
        // Each in turn, several times; some say goodbye before they go, some just drop.
        for (let i = 0; i < 6; i++) {
          const which = (first + i) % 2;
          const stays = pages[1 - which];
          if (i % 3 === 0) pages[which].client.emit('message', 'bye');
          pages[which].client.close();
          await stays.client.take('message', 'bye');
          pages[which] = await open(room);
          stays.client.heard = [];
          await inCall(pages);
        }
      }
    } finally {
      for (const client of clients) client.close();
    }
  };

  tests[`socket.io ${version} bounds`] = async () => {
    const clients = [];
    const open = async (transports) => {
      const client = new Client(io, transports);
      clients.push(client);
      await client.connected();
      return client;
    };
    try {
      const stays = await open(['websocket']);
      stays.emit('create or join', 'bounds');
      await stays.take('created');
      for (const transports of [['websocket'], ['polling']]) {
        for (const sent of ['x'.repeat(70000), Buffer.from('binary')]) {
          const rude = await open(transports);
          rude.emit('create or join', 'bounds');
          await rude.take('joined');
          await stays.take('join');
          rude.emit('message', sent);
          await rude.take('disconnect');
          await stays.take('message', 'bye');
        }
      }
      const flood = await open(['websocket']);
      for (let i = 0; i < 1000; i++) flood.emit('noise', i);
      await flood.take('disconnect');
      assert.deepEqual(await stays.rest().then((heard) => heard.filter(([event]) => event !== 'ready')), []);
    } finally {
      for (const client of clients) client.close();
    }
  };
}

tests['socket.io crowd'] = async (daemon) => {
  await daemon.stop();
  await daemon.start({ rooms: { 'connections-per-address': 3 } });
  const io = CLIENTS['4.x'];
  const clients = [];
  try {
    for (let i = 0; i < 3; i++) {
      clients.push(new Client(io, [['websocket'], ['polling'], ['polling', 'websocket']][i]));
      await clients[i].connected();
    }
    for (const transports of [['websocket'], ['polling']]) {
      const refused = new Client(io, transports);
      clients.push(refused);
      await refused.take('connect_error');
    }
    clients[1].close(); // its place comes back
    for (let tries = 0; ; tries++) {
      const next = new Client(io, ['polling']);
      clients.push(next);
      await next.wait('an answer', () => next.socket.connected || next.heard.length > 0);
      if (next.socket.connected) break;
      assert(tries < 50, 'the place did not come back');
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
  } finally {
    for (const client of clients) client.close();
    await daemon.stop();
    await daemon.start();
  }
};

module.exports = { tests, Daemon };
