/**
 * Camera, microphone and screen of this page.
 *
 * In: clicks and choices. Out: `tracks.video` and `tracks.audio`, what is sent of each kind or null; `changed(kind)`
 * is called when one changes, `complain(text)` when one can't be had.
 */
import { t } from "./words.js";

const WANTED = {
  video: { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" },
  audio: { echoCancellation: true, noiseSuppression: true },
};
const NAME = { video: "deviceCamera", audio: "deviceMic" };
const CHOICE = { videoinput: "camera", audioinput: "mic", audiooutput: "speaker" };
const MEMORY = "ternd.devices";

export class Devices {
  tracks = { video: null, audio: null };
  screen = null; // the track of a shared screen
  /** Ids of devices that were chosen: { camera, mic, speaker }. */
  chosen = {};
  #camera = null; // the track that waits while the screen is shared

  constructor({ changed, complain }) {
    Object.assign(this, { changed, complain });
    try {
      this.chosen = JSON.parse(localStorage.getItem(MEMORY)) ?? {};
    } catch {
      // no memory, no choice
    }
  }

  /** Does the device run? */
  has(kind) { return Boolean(kind === "video" && this.screen ? this.#camera : this.tracks[kind]); }

  /** Starts these devices; what can't be had is complained of. */
  async start(...kinds) {
    if (!navigator.mediaDevices) {
      this.complain(t("insecure"));
      return;
    }
    let failures = await this.#open(kinds);
    // One of two may be missing or refused: the other one can still be had.
    if (failures.length > 1) failures = (await Promise.all(kinds.map((kind) => this.#open([kind])))).flat();
    this.complain(failures.length ? this.#why(failures) : "");
  }

  stop(kind) { this.#use(kind, null); }

  /** All or none of these, those that were chosen if they are there. Returns what failed: [{ kind, error }]. */
  async #open(kinds) {
    const chosen = { video: this.chosen.camera, audio: this.chosen.mic };
    const ask = (wish) => navigator.mediaDevices.getUserMedia(Object.fromEntries(kinds.map((kind) => [kind, wish(kind)])));
    const any = (kind) => WANTED[kind];
    // Not "ideal": a wish for a size would outweigh it.
    const exact = (kind) => (chosen[kind] ? { ...WANTED[kind], facingMode: undefined, deviceId: { exact: chosen[kind] } } : any(kind));
    try {
      const stream = await ask(exact).catch((error) => {
        if (error.name !== "OverconstrainedError") throw error;
        return ask(any); // it was unplugged
      });
      for (const track of stream.getTracks()) this.#use(track.kind, track);
      return [];
    } catch (error) {
      return kinds.map((kind) => ({ kind, error }));
    }
  }

  #why(failures) {
    const device = failures.map(({ kind }) => t(NAME[kind])).join(t("and"));
    const { error } = failures[0];
    const key = { NotAllowedError: "refusedDevice", NotFoundError: "noDevice", NotReadableError: "busyDevice" }[error.name] ?? "otherDevice";
    return `${t(key, { device, why: error.message })} ${t("anyway")}`;
  }

  #use(kind, track) {
    const sharing = kind === "video" && this.screen;
    const old = sharing ? this.#camera : this.tracks[kind];
    if (old) {
      old.onended = null;
      old.stop();
    }
    if (track) {
      track.onended = () => {
        this.#use(kind, null);
        this.complain(t("lostDevice", { device: t(NAME[kind]) }));
      };
    }
    if (sharing) this.#camera = track;
    else this.tracks[kind] = track;
    this.changed(kind);
  }

  /** The screen takes the camera's place until it ends. */
  async share() {
    let stream;
    try {
      stream = await navigator.mediaDevices.getDisplayMedia({ video: true });
    } catch {
      return; // changed one's mind
    }
    const [track] = stream.getVideoTracks();
    track.contentHint = "detail";
    track.onended = () => this.unshare();
    this.#camera = this.tracks.video;
    this.tracks.video = this.screen = track;
    this.changed("video");
  }

  unshare() {
    if (!this.screen) return;
    this.screen.onended = null;
    this.screen.stop();
    this.screen = null;
    this.tracks.video = this.#camera;
    this.#camera = null;
    this.changed("video");
  }

  /** What there is to choose from: { camera: [{ id, label }], mic, speaker }. */
  async list() {
    const lists = { camera: [], mic: [], speaker: [] };
    const found = await navigator.mediaDevices?.enumerateDevices().catch(() => []) ?? [];
    for (const { kind, deviceId, label } of found) {
      const list = lists[CHOICE[kind]];
      if (deviceId) list.push({ id: deviceId, label: label || t("deviceN", { n: list.length + 1 }) });
    }
    return lists;
  }

  /** Uses another device from now on; restarts what runs. */
  async choose(which, id) {
    this.chosen[which] = id;
    try {
      localStorage.setItem(MEMORY, JSON.stringify(this.chosen));
    } catch {
      // chosen for this page only, then
    }
    const kind = { camera: "video", mic: "audio" }[which];
    if (kind && this.has(kind)) await this.start(kind);
  }
}
