/**
 * What the pages say, in English and Chinese.
 *
 * In: the browser's languages, and the choice made before. Out: `t(key, { name: value })`, and the texts of all elements
 * with `data-t` (their content) or `data-t-ATTRIBUTE` (an attribute). `{n}` stands for a value.
 */

const LANGUAGES = {
  en: {
    language: "中文", languageLabel: "切换到中文",
    title: "ternd: rooms for up to eight", brand: "ternd, start page",
    notInRoom: "Not in a room", peopleN: "{n} people", connectingServer: "Connecting to the server", waitingIn: "In room {room}, waiting",
    serverLost: "The server is out of reach, trying again", serverLostCall: "Connected to {names}, but the server is out of reach, trying again",
    connectedTo: "Connected to {names}", looking: "Looking for a path to {names}", lostPath: "Lost the path to {names}, trying again", noPath: "Found no path to {names}, trying again",
    video: "Video", yourCamera: "Your camera", cameraOff: "Your camera is off", you: "You", guest: "Guest",
    first: "You are the first one here", sendLink: "Send this link to the people you want to see.", roomLink: "Link to this room", copyLink: "Copy link", copied: "Copied",
    controls: "Call controls", mic: "Microphone", micOn: "Unmute", micOff: "Mute", cameraOn: "Start camera", cameraStop: "Stop camera", screenOn: "Share screen", screenOff: "Stop sharing", devices: "Devices", leave: "Leave", lock: "Lock room", unlock: "Unlock room",
    meet: "Meet in a room", choose: "Choose a name for the room, or keep this one. Whoever has its link can come in.",
    room: "Room", roomHelp: "Letters, digits, dots, dashes; a link works too.", yourName: "Your name", optional: "optional", pin: "PIN", pinHelp: "The first one in a room sets it, the others need it.", join: "Join",
    without: "Camera and microphone are optional: without them you can watch, listen and chat.",
    chat: "Chat", message: "Message", send: "Send", writeLine: "Write a line", connecting: "Connecting", waitingSomeone: "Waiting for someone",
    people: "People", nobody: "Nobody else is here yet.", underneath: "What happens underneath", machines: "State of each connection", log: "Signaling and states", copyLog: "Copy log", diagnose: "Check your connection",
    deviceTitle: "Camera, microphone, speaker", camera: "Camera", speaker: "Speaker", done: "Done", deviceN: "Device {n}", deviceHelp: "Names show once the page may use the devices.",
    rtt: "Round trip", incoming: "Received", outgoing: "Sent", loss: "Lost", path: "Path", none: "none yet", kick: "Put out", kickSure: "Put {name} out of the room?", away: "lost the server, the call goes on", moderator: "moderator",
    cameIn: "{name} came in", left: "{name} left", kicked: "{name} was put out", soundOn: "Turn the sound on", videoOf: "Video of {name}",
    copyFailed: "This browser did not let the page copy. The link is {link}", badRoom: "A room's name begins with a letter or digit and has up to 64 letters, digits, dots and dashes. A link to a room works too.",
    insecure: "Camera and microphone need a secure page: open this one over https. Chat works without them.",
    refusedDevice: "Access to the {device} was refused. Allow it in the browser's address bar, then start again.", noDevice: "The browser finds no {device}.", busyDevice: "The {device} cannot be read: another program may be using it.", otherDevice: "The {device} could not be started: {why}.", anyway: "Chat works anyway, and you see and hear the others.",
    lostDevice: "The {device} was taken away.", deviceCamera: "camera", deviceMic: "microphone", and: " and ",
    room_full: "Room {room} is full.", bad_pin: "Room {room} asks for another PIN.", needPin: "Room {room} has a PIN: type it in.", room_locked: "Room {room} is locked: nobody else can come in.", errKicked: "A moderator put you out of the room.", session_replaced: "You are in this room in another window now.", unauthorized: "The invitation of this link is not valid.", token_expired: "The invitation of this link is over.", refused: "The server refused: {message}",
    failed: "No path to {name}.", why_none: "The server offers no relay, so only direct paths were tried: {message}.", why_unreachable: "Your network lets nothing through to the relay ({url}).", why_refused: "The relay refused: {why}.", why_peer: "The relay is reached from here: the other side may not reach it.",
    code_300: "the server sends clients to another one", code_401: "the credentials are not valid", code_403: "the server forbids it", code_437: "the server has another allocation there", code_438: "the credentials are not fresh", code_441: "the credentials are those of somebody else", code_442: "the server does not relay that", code_486: "all relays that one may have are in use", code_500: "a fault of the server", code_508: "all relays of the server are in use",
    pathDirect: "direct, {transport}", pathRelay: "relayed over {transport}", pathTheirs: "relayed by the other side, {transport}", silent: "muted",
    state_new: "looking for a path", state_connecting: "connecting", state_connected: "connected", state_disconnected: "interrupted", state_failed: "no path", state_closed: "ended",
    draining: "The server is about to restart; the call goes on.",
  },
  zh: {
    language: "English", languageLabel: "Switch to English",
    title: "ternd：最多八人的房间", brand: "ternd 首页",
    notInRoom: "不在房间中", peopleN: "{n} 人", connectingServer: "正在连接服务器", waitingIn: "已进入房间 {room}，等待他人",
    serverLost: "无法连接服务器，正在重试", serverLostCall: "与 {names} 通话中，但服务器无法连接，正在重试",
    connectedTo: "已与 {names} 连接", looking: "正在寻找通往 {names} 的路径", lostPath: "与 {names} 的连接中断，正在重试", noPath: "未找到通往 {names} 的路径，正在重试",
    video: "视频", yourCamera: "您的摄像头", cameraOff: "摄像头已关闭", you: "您", guest: "访客",
    first: "您是第一位", sendLink: "把此链接发给想见的人。", roomLink: "房间链接", copyLink: "复制链接", copied: "已复制",
    controls: "通话控制", mic: "麦克风", micOn: "取消静音", micOff: "静音", cameraOn: "打开摄像头", cameraStop: "关闭摄像头", screenOn: "共享屏幕", screenOff: "停止共享", devices: "设备", leave: "离开", lock: "锁定房间", unlock: "解锁房间",
    meet: "进入房间", choose: "为房间取个名字，或保留此名。有链接的人都可以进入。",
    room: "房间", roomHelp: "字母、数字、点和连字符；也可粘贴链接。", yourName: "您的名字", optional: "可选", pin: "PIN 码", pinHelp: "第一位进入者设定，其他人需要输入。", join: "加入",
    without: "摄像头和麦克风是可选的：没有它们也可以观看、收听和聊天。",
    chat: "聊天", message: "消息", send: "发送", writeLine: "输入消息", connecting: "正在连接", waitingSomeone: "等待他人加入",
    people: "成员", nobody: "还没有其他人。", underneath: "技术细节", machines: "各连接的状态", log: "信令与状态", copyLog: "复制日志", diagnose: "检查网络连接",
    deviceTitle: "摄像头、麦克风、扬声器", camera: "摄像头", speaker: "扬声器", done: "完成", deviceN: "设备 {n}", deviceHelp: "允许使用设备后才会显示名称。",
    rtt: "往返时间", incoming: "接收", outgoing: "发送", loss: "丢包", path: "路径", none: "尚无", kick: "移出", kickSure: "将 {name} 移出房间？", away: "与服务器断开，通话继续", moderator: "主持人",
    cameIn: "{name} 进入了房间", left: "{name} 离开了", kicked: "{name} 被移出", soundOn: "打开声音", videoOf: "{name} 的视频",
    copyFailed: "浏览器不允许复制。链接是 {link}", badRoom: "房间名以字母或数字开头，最多 64 个字母、数字、点和连字符。也可粘贴房间链接。",
    insecure: "摄像头和麦克风需要安全页面：请通过 https 打开。没有它们也能聊天。",
    refusedDevice: "{device}的使用被拒绝。请在浏览器地址栏中允许，然后重试。", noDevice: "浏览器找不到{device}。", busyDevice: "无法读取{device}：可能正被其他程序使用。", otherDevice: "无法启动{device}：{why}。", anyway: "仍可聊天，也能看到和听到他人。",
    lostDevice: "{device}已断开。", deviceCamera: "摄像头", deviceMic: "麦克风", and: "和",
    room_full: "房间 {room} 已满。", bad_pin: "房间 {room} 的 PIN 码不正确。", needPin: "房间 {room} 需要 PIN 码，请输入。", room_locked: "房间 {room} 已锁定，无法进入。", errKicked: "主持人已将您移出房间。", session_replaced: "您已在另一个窗口进入此房间。", unauthorized: "此链接的邀请无效。", token_expired: "此链接的邀请已过期。", refused: "服务器拒绝：{message}",
    failed: "没有通往 {name} 的路径。", why_none: "服务器未提供中继，只尝试了直接路径：{message}。", why_unreachable: "您的网络不允许访问中继（{url}）。", why_refused: "中继拒绝：{why}。", why_peer: "从这里可以到达中继：可能是对方无法到达。",
    code_300: "服务器要求使用另一台服务器", code_401: "凭据无效", code_403: "服务器禁止", code_437: "该处已有另一个分配", code_438: "凭据已过时", code_441: "凭据属于他人", code_442: "服务器不中继此类传输", code_486: "可用的中继名额已用完", code_500: "服务器故障", code_508: "服务器的中继已全部占用",
    pathDirect: "直连，{transport}", pathRelay: "经 {transport} 中继", pathTheirs: "由对方中继，{transport}", silent: "已静音",
    state_new: "正在寻找路径", state_connecting: "正在连接", state_connected: "已连接", state_disconnected: "已中断", state_failed: "没有路径", state_closed: "已结束",
    draining: "服务器即将重启，通话继续。",
  },
};

const MEMORY = "ternd.language";
let language = "en";

function remembered() {
  try {
    return localStorage.getItem(MEMORY);
  } catch {
    return null; // storage may be forbidden
  }
}

/** Adds texts of a page of its own: { en: {...}, zh: {...} }. */
export function addWords(words) {
  for (const [name, texts] of Object.entries(words)) Object.assign(LANGUAGES[name], texts);
}

export function t(key, values = {}) {
  const text = LANGUAGES[language][key] ?? LANGUAGES.en[key] ?? key;
  return text.replaceAll(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Why a relay refused: words for the STUN error code if there are any, or else the server's. */
export function refusalInWords(code, text) {
  const words = hasWord(`code_${code}`) ? t(`code_${code}`) : text;
  return words ? `${words} (${code})` : String(code);
}

export const hasWord = (key) => key in LANGUAGES.en;

/** Puts the texts into the elements below `root`. */
export function translate(root = document) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const attribute of ["label", "title", "placeholder"]) {
    const name = attribute === "label" ? "aria-label" : attribute;
    for (const element of root.querySelectorAll(`[data-t-${attribute}]`)) {
      element.setAttribute(name, t(element.getAttribute(`data-t-${attribute}`)));
    }
  }
}

/** Sets the language and calls `changed` then and at each change; `button` switches to the other one. */
export function startLanguage(button, changed = () => {}) {
  const wanted = new URLSearchParams(location.search).get("lang") ?? remembered()
    ?? (navigator.languages ?? []).map((name) => name.slice(0, 2)).find((name) => name in LANGUAGES);
  const use = (name) => {
    language = name in LANGUAGES ? name : "en";
    document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
    button.lang = language === "en" ? "zh-Hans" : "en";
    translate();
    changed();
  };
  button.addEventListener("click", () => {
    const other = language === "en" ? "zh" : "en";
    try {
      localStorage.setItem(MEMORY, other);
    } catch {
      // it is forgotten with the page, then
    }
    use(other);
  });
  use(wanted ?? "en");
}
