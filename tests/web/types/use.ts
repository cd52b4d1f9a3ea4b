// A page's script in TypeScript, with all that it may say; and what it may not.
import * as ternd from "ternd";

export async function call(stream: MediaStream): Promise<void> {
  const room: ternd.Room = await ternd.join({ url: "https://turn.example.org", room: "demo", stream, signal: AbortSignal.timeout(10000) });
  const off: () => void = room.on("peer", (peer) => {
    peer.on("stream", (theirs) => { document.querySelector("video")!.srcObject = theirs; });
    peer.on("message", (text) => console.log(text.toUpperCase()));
    peer.on("failed", ({ errors }) => console.log(errors.map(({ url, code }) => `${url} ${code}`)));
    peer.on("state", ({ machine, state }) => console.log(machine === "channel", state));
  });
  room.on("refused", (error) => console.log(error.code, error.message, error.retryMs));
  room.on("retry", (ms) => console.log(ms.toFixed(0)));
  room.setTrack("video", stream.getVideoTracks()[0] ?? null);
  const count: number = room.send("hello");
  const token: string = await room.invite({ ttl_s: 600, role: "member" });
  await room.set("topic", { text: token, count });
  for (const peer of room.peers.values()) {
    const path = await peer.path();
    if (path?.relay === "tls") console.log(path.words, path.rttMs);
    const before = await peer.totals();
    console.log(ternd.rates(before, await peer.totals()).inKbps);
  }
  off();
  room.leave();

  // @ts-expect-error: the room's name is missing
  await ternd.join({ stream });
  // @ts-expect-error: there is no such event
  room.on("peers", () => {});
  // @ts-expect-error: only audio and video
  room.setTrack("screen", null);
}
