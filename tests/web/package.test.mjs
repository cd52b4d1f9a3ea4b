// ternd.js as an npm package: its types, its files, and that the demo page uses nothing else.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const read = (name) => readFileSync(path(name), "utf8");
const web = path("../../web/");

test("the types are those of the module", () => {
  mkdirSync(path("../../target/web/types/"), { recursive: true });
  copyFileSync(`${web}ternd.js`, path("../../target/web/types/inferred.js"));
  const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  const run = spawnSync(process.execPath, [tsc, "--project", path("types/")], { encoding: "utf8" });
  assert.equal(run.status, 0, run.stdout + run.stderr);
});

test("each event that is emitted has a type, and the other way round", () => {
  const [script, types] = [read("../../web/ternd.js"), read("../../web/ternd.d.ts")];
  const start = script.indexOf(" * Another member of the room");
  for (const [name, source] of [["Room", script.slice(0, start)], ["Peer", script.slice(start)]]) {
    const emitted = new Set([...source.matchAll(/_emit\("(\w+)"/g)].map(([, event]) => event));
    const body = types.match(new RegExp(`interface ${name}Events \\{([\\s\\S]*?)\\n\\}`))[1];
    const typed = new Set([...body.matchAll(/^ {2}(\w+):/gm)].map(([, event]) => event));
    assert.deepEqual([...emitted].sort(), [...typed].sort(), name);
    const told = source.match(/\* Events: ([\s\S]*?)\*\//)[1];
    for (const event of emitted) assert(told.includes(`\`${event}\``), `the comment on ${name} does not tell of ${event}`);
  }
});

test("each option that is read has a type, and the other way round", () => {
  const [script, types] = [read("../../web/ternd.js"), read("../../web/ternd.d.ts")];
  const body = types.match(/interface RoomOptions \{([\s\S]*?)\n\}/)[1];
  const typed = [...body.matchAll(/^ {2}(\w+)[?:(]/gm)].map(([, option]) => option);
  const told = script.match(/\* Options: ([\s\S]*?)\* Events:/)[1];
  for (const option of typed) assert(told.includes(`\`${option}`), `the comment does not tell of the option ${option}`);
  const direct = [...script.matchAll(/(?:this\.#options|\boptions)\.(\w+)/g)].map(([, option]) => option);
  const taken = [...script.matchAll(/const \{ ([^}]*) \} = this\.#options;/g)].flatMap(([, names]) => names.split(", "));
  assert.deepEqual([...new Set([...direct, ...taken])].sort(), typed.sort());
});

test("the package has these files, the version of the server, and can be imported by its name", () => {
  const [{ name, version, files }] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json", "--offline"], { cwd: web, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  assert.equal(name, "ternd");
  assert.equal(version, read("../../Cargo.toml").match(/^version = "(.*)"/m)[1]);
  assert.deepEqual(files.map((file) => file.path).sort(), ["README.md", "package.json", "ternd.d.ts", "ternd.js"]);
  const code = 'const { join } = await import("ternd"); process.exit(typeof join === "function" ? 0 : 1);';
  assert.equal(spawnSync(process.execPath, ["--input-type=module", "-e", code], { cwd: web }).status, 0);
});

test("the module depends on nothing, and the demo page on nothing else", () => {
  assert.doesNotMatch(read("../../web/ternd.js"), /^import |\bimport\(|\brequire\(/m);
  const seen = new Set();
  const follow = (name) => {
    if (seen.has(name) || name === "ternd.js") return;
    seen.add(name);
    const source = read(`../../web/${name}`);
    assert.doesNotMatch(source, /new (RTC\w+|WebSocket|EventSource)|\bfetch\(|XMLHttpRequest/, `${name} goes past ternd.js`);
    for (const [, other] of source.matchAll(/from "\.\/([\w.]+)"/g)) follow(other);
  };
  follow("app.js");
  assert(seen.size >= 4 && dirname(web));
});
