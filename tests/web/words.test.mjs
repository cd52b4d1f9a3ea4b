// Every text in both languages, and no other.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

const web = new URL("../../web/", import.meta.url);
const read = (name) => readFileSync(new URL(name, web), "utf8");
const files = readdirSync(web);
const [scripts, pages] = [".js", ".html"].map((end) => files.filter((name) => name.endsWith(end)).map((name) => [name, read(name)]));

/** The tables of texts in a script: whatever stands behind `LANGUAGES =` or `addWords(`. */
function tables(source) {
  return [...source.matchAll(/(?:LANGUAGES = |addWords\()(\{[\s\S]*?\n\})(?:;|\);)/g)]
    .map(([, literal]) => new Function(`return ${literal}`)());
}

const all = scripts.flatMap(([, source]) => tables(source));
const en = Object.assign({}, ...all.map((table) => table.en));
const zh = Object.assign({}, ...all.map((table) => table.zh));
const placeholders = (text) => [...text.matchAll(/\{\w+\}/g)].map(([name]) => name).sort();

test("each key is in both languages, once, with the same values to fill in", () => {
  assert(all.length >= 2 && Object.keys(en).length > 100);
  for (const table of all) assert.deepEqual(Object.keys(table.en), Object.keys(table.zh));
  assert.equal(Object.keys(en).length, all.reduce((sum, table) => sum + Object.keys(table.en).length, 0), "a key is in two tables");
  for (const key of Object.keys(en)) {
    assert(en[key].trim() && zh[key].trim(), `${key} is empty`);
    assert.deepEqual(placeholders(zh[key]), placeholders(en[key]), key);
  }
});

test("Chinese texts are Chinese", () => {
  // The button that leads to the other language speaks that one.
  const same = new Set(["language", "languageLabel", "waiting"]);
  for (const key of Object.keys(en)) {
    if (same.has(key)) continue;
    assert.match(zh[key], /\p{Script=Han}/u, key);
    assert.doesNotMatch(en[key], /\p{Script=Han}/u, key);
  }
});

/** Keys that scripts make: `state_${...}` is any that begins so. */
function used() {
  const exact = new Set();
  const beginnings = new Set();
  for (const [, source] of scripts) {
    const code = source.replaceAll(/(?:LANGUAGES = |addWords\()\{[\s\S]*?\n\}(?:;|\);)/g, "");
    for (const [, name] of code.matchAll(/["'`]([\w-]+)["'`]/g)) exact.add(name);
    for (const [, beginning] of code.matchAll(/`(\w+_)\$\{/g)) beginnings.add(beginning);
  }
  for (const [, source] of pages) for (const [, key] of source.matchAll(/data-t(?:-\w+)?="(\w+)"/g)) exact.add(key);
  return { exact, beginnings };
}

test("no text is there that nothing shows", () => {
  const { exact, beginnings } = used();
  // What the server calls an error is looked up by its code.
  const codes = ["room_full", "bad_pin", "room_locked", "session_replaced", "unauthorized", "token_expired"];
  const unused = Object.keys(en).filter((key) => !exact.has(key) && !codes.includes(key) && ![...beginnings].some((beginning) => key.startsWith(beginning)));
  assert.deepEqual(unused, []);
});

test("what pages and scripts ask for is there", () => {
  for (const [name, source] of pages) {
    for (const [, key] of source.matchAll(/data-t(?:-\w+)?="(\w+)"/g)) assert(key in en, `${name}: ${key}`);
  }
  for (const [name, source] of scripts) {
    for (const [, key] of source.matchAll(/\bt\("(\w+)"/g)) assert(key in en, `${name}: ${key}`);
  }
});

test("the pages as they are written speak English, and no text of theirs stays so", () => {
  for (const [name, source] of pages) {
    const body = source.slice(source.indexOf("<body"));
    for (const [, tag, attributes, text] of body.matchAll(/<(\w+)([^>]*)>([^<>]*[A-Za-z\u4e00-\u9fff][^<>]*)</g)) {
      const key = attributes.match(/data-t="(\w+)"/)?.[1];
      if (["IPv4", "IPv6", "ternd"].includes(text.trim()) || /noscript/.test(body.slice(Math.max(0, body.indexOf(text) - 60), body.indexOf(text)))) continue;
      if (tag === "p" && attributes.includes('id="status"')) continue; // the script fills it
      assert(key, `${name}: '${text.trim()}' has no key`);
      assert.equal(text.trim(), en[key], `${name}: ${key}`);
    }
    for (const [, key, label] of body.matchAll(/data-t-label="(\w+)"[^>]*aria-label="([^"]*)"/g)) assert.equal(label, en[key], `${name}: ${key}`);
  }
});
