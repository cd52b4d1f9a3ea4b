/**
 * The diagnostics page: what this browser can reach of the server the page came from, in words.
 *
 * In: `/v1/ice`, or a result in the address (`#r=...`, which no server sees). Out: the page; the same as JSON, or as a link.
 * For tests: `?auto=1` starts at once, and `window.diagnostics` is the result, or null.
 */
import { familyOf, gather, judge, loopback, mappings, natKind, pack, unpack, urlsOf } from "./probe.js";
import { addWords, refusalInWords, startLanguage, t } from "./words.js";

addWords({
  en: {
    dTitle: "Check your connection", dIntro: "Finds out how this browser reaches the server. What it finds stays here until you copy it.", dRun: "Run the check", dCopyJson: "Copy as JSON", dCopyLink: "Copy as link",
    dServers: "Ways to the server", dUrl: "Way", dNat: "Your network", dNotYet: "Not checked yet.", dCall: "A relayed call", dCallHelp: "Both ends are in this page; all goes to the relay and back.", dOver: "It went over {transport}.", dJitter: "Jitter", dThroughput: "Throughput", dRaw: "The result as JSON",
    dRunning: "Checking: {what}", dDone: "Checked", dFailed: "The check failed", dShown: "A result from {time}",
    verdict_reachable: "reachable, {ms} ms", reached: "reachable", refusedWhy: "refused: {why}", verdict_unreachable: "not reachable", unreachableWhy: "not reachable: {why}", verdict_untried: "not tried by this browser", verdict_none: "no such address", waiting: "…",
    way_stun: "Own address over {transport}", way_turn: "Relay over {transport}", badLink: "This link holds no result that can be read.",
    nat_none: "No NAT: this machine has the address that others see.", nat_independent: "A NAT that maps the same way to everywhere: direct paths work mostly.", nat_dependent: "A symmetric NAT, with another mapping for each destination: most calls need the relay.", nat_some: "A NAT. Which kind can't be told by a server with one address; the relay works with all.", nat_unknown: "UDP does not get through, or there is no STUN server: calls go over TCP or TLS.",
    mapped: "Seen from outside as {list}.", noRelay: "There is no relay to try.", callFailed: "It did not connect: {why}", noServers: "The server gave no addresses: {why}", step_rtt: "round trip", step_loss: "loss", step_throughput: "throughput", step_urls: "ways to the server", step_nat: "your network", step_call: "a relayed call",
  },
  zh: {
    dTitle: "检查网络连接", dIntro: "检查此浏览器如何到达服务器。结果只留在此处，直到您复制它。", dRun: "开始检查", dCopyJson: "复制 JSON", dCopyLink: "复制链接",
    dServers: "通往服务器的途径", dUrl: "途径", dNat: "您的网络", dNotYet: "尚未检查。", dCall: "经中继的通话", dCallHelp: "两端都在此页面中；数据往返经过中继。", dOver: "经由 {transport}。", dJitter: "抖动", dThroughput: "吞吐量", dRaw: "JSON 结果",
    dRunning: "正在检查：{what}", dDone: "检查完毕", dFailed: "检查失败", dShown: "{time} 的结果",
    verdict_reachable: "可到达，{ms} 毫秒", reached: "可到达", refusedWhy: "被拒绝：{why}", verdict_unreachable: "无法到达", unreachableWhy: "无法到达：{why}", verdict_untried: "此浏览器未尝试", verdict_none: "无此类地址", waiting: "…",
    way_stun: "经 {transport} 查询自身地址", way_turn: "经 {transport} 中继", badLink: "此链接中没有可读的结果。",
    nat_none: "没有 NAT：本机地址就是他人所见的地址。", nat_independent: "NAT 对所有目的地的映射相同：通常可以直连。", nat_dependent: "对称型 NAT，每个目的地的映射不同：多数通话需要中继。", nat_some: "有 NAT。只有一个地址的服务器无法判断类型；中继适用于所有类型。", nat_unknown: "UDP 不通，或没有 STUN 服务器：通话将经由 TCP 或 TLS。",
    mapped: "外部所见：{list}。", noRelay: "没有可用的中继。", callFailed: "未能连接：{why}", noServers: "服务器未提供地址：{why}", step_rtt: "往返时间", step_loss: "丢包", step_throughput: "吞吐量", step_urls: "通往服务器的途径", step_nat: "您的网络", step_call: "经中继的通话",
  },
});

const FAMILIES = { ipv4: "IPv4", ipv6: "IPv6" };
const $ = (id) => document.getElementById(id);
let result = null;
let status = ["calm", null, {}];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function say(tone, key, values = {}) {
  status = [tone, key, values];
  showStatus();
}

function showStatus() {
  const [tone, key, values] = status;
  const shown = { ...values };
  if (values.step) shown.what = t(`step_${values.step}`);
  $("status").dataset.tone = tone;
  $("status").textContent = key ? t(key, shown) : "";
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// ---- the check

async function run() {
  $("run").disabled = true;
  notice("");
  result = { version: 1, at: new Date().toISOString(), server: location.host, browser: navigator.userAgent, urls: [], nat: null, call: null };
  try {
    say("busy", "dRunning", { step: "urls" });
    const reply = await fetch("/v1/ice");
    const body = await reply.json();
    if (!reply.ok) throw new Error(body.message ?? reply.status);
    const urls = urlsOf(body.iceServers);
    result.urls = urls.map(({ url, role, transport }) => ({ url, role, transport }));
    render();
    await Promise.all(urls.map(async (each, i) => {
      const found = await gather(each);
      for (const family in FAMILIES) result.urls[i][family] = judge(found, family);
      result.urls[i].candidates = found.candidates;
      result.urls[i].errors = found.errors;
      render();
    }));
    say("busy", "dRunning", { step: "nat" });
    result.nat = await network(urls);
    render();
    result.call = await call(urls);
    say("good", "dDone");
  } catch (error) {
    notice(t("noServers", { why: error.message }));
    say("bad", "dFailed");
  }
  render();
  window.diagnostics = result;
  $("run").disabled = false;
}

async function network(urls) {
  const { hosts, mappings: seen, relayed } = await mappings(urls);
  // Without a NAT STUN tells the address that there is, and browsers give no address twice.
  const reached = (family) => result.urls.find((u) => u.role === "turn" && u.transport === "udp" && ["reachable", "refused"].includes(u[family].verdict));
  for (const each of result.urls.filter((u) => u.role === "stun" && u.transport === "udp")) {
    for (const family in FAMILIES) {
      const turn = each[family].verdict === "unreachable" && reached(family);
      if (turn) each[family] = { verdict: "reachable", ms: turn[family].ms };
    }
  }
  const asked = result.urls.some((u) => u.role === "stun" && Object.keys(FAMILIES).some((family) => u[family].verdict === "reachable"));
  const open = asked && seen.length === 0 && hosts.length > 0;
  return { kind: open ? "none" : natKind(hosts, seen, relayed), mappings: seen, relayed };
}

async function call(urls) {
  const works = urls.filter(({ role }, i) => role === "turn" && Object.keys(FAMILIES).some((f) => result.urls[i][f].verdict === "reachable"));
  if (works.length === 0) return { error: "no relay" };
  try {
    return await loopback(works.map(({ server }) => server), (step) => say("busy", "dRunning", { step }));
  } catch (error) {
    return { error: error.message };
  }
}

// ---- the page

const TONE = { reachable: "good", refused: "bad", unreachable: "bad" };

function cell(family, judged) {
  return make("td", { "data-family": FAMILIES[family], "data-tone": TONE[judged?.verdict] ?? "" }, judged ? inWords(judged) : t("waiting"));
}

function inWords({ verdict, ms, code, why }) {
  if (verdict === "refused") return t("refusedWhy", { why: refusalInWords(code, why) });
  if (verdict === "unreachable" && why) return t("unreachableWhy", { why });
  if (verdict === "reachable" && !ms) return t("reached");
  return t(`verdict_${verdict}`, { ms });
}

function row({ url, role, transport, ...found }) {
  const way = t(role === "turn" ? "way_turn" : "way_stun", { transport: String(transport).toUpperCase() });
  return make("tr", {}, make("th", { scope: "row" }, way, make("code", {}, String(url))), ...Object.keys(FAMILIES).map((family) => cell(family, found[family])));
}

/** Shows `result`, which may come from a link: text is text, and what is missing is left out. */
function render() {
  document.title = `ternd: ${t("dTitle")}`;
  showStatus();
  const { urls = [], nat, call: figures } = result ?? {};
  $("urls").tBodies[0].replaceChildren(...urls.map(row));
  if (nat) {
    const list = (nat.mappings ?? []).map(({ address, port }) => (familyOf(address) === "ipv6" ? `[${address}]:${port}` : `${address}:${port}`));
    const seen = [...new Set(list)];
    $("nat").textContent = `${t(`nat_${nat.kind}`)} ${seen.length ? t("mapped", { list: seen.join(", ") }) : ""}`;
  } else {
    $("nat").textContent = t("dNotYet");
  }
  const number = (value, digits, unit) => (Number.isFinite(value) ? `${value.toFixed(digits)} ${unit}` : "–");
  $("rtt").textContent = number(figures?.rttMs, 1, "ms");
  $("jitter").textContent = number(figures?.jitterMs, 1, "ms");
  $("loss").textContent = number(figures?.loss * 100, 1, "%");
  $("throughput").textContent = number(figures?.mbps, 1, "Mbit/s");
  const error = figures?.error;
  const over = figures?.relay ? ` ${t("dOver", { transport: String(figures.relay).toUpperCase() })}` : "";
  $("call-note").textContent = !error ? t("dCallHelp") + over : error === "no relay" ? t("noRelay") : t("callFailed", { why: error });
  $("json").textContent = result ? JSON.stringify(result, null, 1) : "";
  $("copy-json").disabled = $("copy-link").disabled = !figures;
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = t("copied");
    setTimeout(() => { button.textContent = t(button.dataset.t); }, 1500);
  } catch {
    notice(t("copyFailed", { link: text }));
  }
}

$("run").addEventListener("click", run);
$("copy-json").addEventListener("click", () => copy(JSON.stringify(result, null, 1), $("copy-json")));
$("copy-link").addEventListener("click", async () => {
  const link = `${location.origin}/diagnostics#r=${await pack(result)}`;
  history.replaceState(null, "", link);
  copy(link, $("copy-link"));
});

window.diagnostics = null;
startLanguage($("language"), render);

async function show(packed) {
  try {
    result = await unpack(packed);
    say("calm", "dShown", { time: new Date(result.at).toLocaleString(document.documentElement.lang) });
    render();
  } catch {
    result = null;
    say("bad", "dFailed");
    render();
    notice(t("badLink"));
  }
}

const given = new URLSearchParams(location.hash.slice(1)).get("r");
if (given) show(given);
else if (new URLSearchParams(location.search).get("auto") === "1") run();
