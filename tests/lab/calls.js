// Two pages in a call, and what shows that it works.
'use strict';

const peer = (snapshot) => snapshot.peers[0];
const isConnected = (snapshot) => snapshot.peers.length === 1 && peer(snapshot).connectionState === 'connected'
  && peer(snapshot).channel === 'open' && peer(snapshot).path !== null;

/** Both connected, both see the other's video move, a line of chat arrives both ways. */
async function proveCall(a, b, ms) {
  await Promise.all([a, b].map((it) => it.until('connected', isConnected, ms)));
  await Promise.all([a, b].map(proveVideo));
  await proveChat(a, b);
  await proveChat(b, a);
  return [peer(await a.snapshot()), peer(await b.snapshot())];
}

/** Frames are decoded, and the video element plays them. */
async function proveVideo(it) {
  const first = await it.until('first video frame', (s) => isConnected(s) && peer(s).framesDecoded > 0 && peer(s).videoTime > 0);
  await it.until('moving video', (s) => peer(s).framesDecoded >= peer(first).framesDecoded + 5
    && peer(s).videoTime >= peer(first).videoTime + 0.3);
}

let lines = 0;
async function proveChat(from, to) {
  const text = `line ${++lines} from ${from.node}`;
  await from.ask('chat', { text });
  await to.until(`chat: '${text}'`, (s) => s.messages.some((m) => m.from === from.node && m.text === text), 5000);
}

function inWords(it, { path, connectedMs }) {
  return `${it.node}: ${path.words} (${path.local.candidateType}>${path.remote.candidateType}, connected after ${connectedMs} ms)`;
}

async function openBoth(lab, room, [a, optionsA], [b, optionsB]) {
  return Promise.all([lab.open(a, room, optionsA), lab.open(b, room, optionsB)]);
}

function isRelayed({ path }) {
  return path.local.candidateType === 'relay' || path.remote.candidateType === 'relay';
}

/** A complete call, and `judge(peerOfA, peerOfB)` for what its path must be. */
function call(sideA, sideB, judge) {
  return async (lab, room) => {
    const [a, b] = await openBoth(lab, room, sideA, sideB);
    const [pa, pb] = await proveCall(a, b);
    judge(pa, pb);
    return `${inWords(a, pa)}; ${inWords(b, pb)}`;
  };
}

module.exports = { call, inWords, isRelayed, openBoth, peer, proveCall, proveChat, proveVideo };
