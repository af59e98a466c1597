// Drives the status page as people would, and says what went wrong. Started by tests/page/run, in a network of its own.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import os from "node:os";
import path from "node:path";

const tools = createRequire(path.join(process.env.GLOBALDNS_PAGE_TOOLS, "package.json"));
const puppeteer = tools("puppeteer-core");
const axe = fs.readFileSync(tools.resolve("axe-core/axe.min.js"), "utf8");
const NAMES = Number(process.env.GLOBALDNS_NAMES || 100_000);
const IMAGES = process.env.GLOBALDNS_IMAGES;
const DEADLINE = Number(process.env.GLOBALDNS_DEADLINE || 120_000);
/** Input to paint, ms. */
const PAINT = 100;

const work = fs.mkdtempSync(path.join(os.tmpdir(), "globaldns-page-"));
const children = [];
const ended = () => {
  for (const child of children) child.kill("SIGKILL");
  // Chromium may still be writing; what is left then is in a temporary directory.
  try {
    fs.rmSync(work, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  } catch (error) {
    console.error(`${error}`);
  }
};
process.on("exit", ended);

function entry(namespace, name, hosts, addresses) {
  const spec = { hosts, addresses, resolution: "DNS" };
  return { apiVersion: "networking.istio.io/v1", kind: "ServiceEntry", metadata: { namespace, name }, spec };
}

/** Written beside and renamed, as one change. */
function write(file, items) {
  fs.writeFileSync(`${file}.new`, JSON.stringify({ kind: "List", items }));
  fs.renameSync(`${file}.new`, file);
}

const step = (text) => console.log(`==== ${text}`);

step(`the program serves ${NAMES} names`);
const entries = path.join(work, "entries");
fs.mkdirSync(entries);
const many = Array.from({ length: NAMES }, (_, i) => {
  const team = `team-${String(i % 200).padStart(3, "0")}`;
  return entry(team, `svc-${i}`, [`svc-${i}.${team}.global`], [`240.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`]);
});
write(path.join(entries, "many.json"), many);
const few = path.join(entries, "few.json");
const unkind = "<img src=x onerror=alert(1)>";
const shop = [
  entry("shop", "checkout", ["checkout.shop.global", "*.pages.shop.global"], ["240.255.0.1", "2001:db8::1"]),
  entry("shop", "range", ["range.shop.global"], ["10.0.0.0/8"]),
  entry("shop", "unkind", [unkind, "a.shop.global"], ["240.255.0.9"]),
  entry("late", "claim", ["checkout.shop.global"], ["240.255.0.7"]),
  entry("shop", "loop", ["loop.shop.global"], ["127.0.0.1"]),
];
write(few, shop);
const program = spawn(process.env.GLOBALDNS_BINARY, [
  "serve", "--file", "entries", "--zone", "global", "--zone", "cluster2", "--listen", "127.0.0.1:5300",
  "--admin-listen", "127.0.0.1:9153", "--peers", "127.0.0.1", "--log-format", "json", "--lameduck", "0s",
  "--state-dir", path.join(work, "state"),
], { cwd: work, stdio: ["ignore", "ignore", "pipe"] });
children.push(program);
let log = "";
const ready = new Promise((done) => program.stderr.on("data", (text) => {
  log = (log + text).slice(-100_000);
  if (log.includes('"message":"ready"')) done();
}));
await Promise.race([ready, new Promise((_, fail) => setTimeout(() => fail(new Error(`not ready: ${log}`)), DEADLINE).unref())]);

// Somebody who asks, so that there is something to draw.
const dgram = await import("node:dgram");
const asker = dgram.createSocket("udp4");
function question(name) {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([Buffer.from("000001000001000000000000", "hex"), ...labels, Buffer.from("0000010001", "hex")]);
}
let asked = 0;
const asking = setInterval(() => {
  const wave = 60 + 40 * Math.sin(asked / 300);
  for (let i = 0; i < wave / 10; i++, asked++) {
    const n = (asked * 7919) % NAMES;
    const name = asked % 9 === 0 ? `nobody-${n}.global` : `svc-${n}.team-${String(n % 200).padStart(3, "0")}.global`;
    asker.send(question(name), 5300, "127.0.0.1");
  }
}, 100);

step("Chromium");
// Whatever is not ours goes to a proxy that is not there.
const [closed] = [net.createServer().listen(0, "127.0.0.1")];
await once(closed, "listening");
const nowhere = closed.address().port;
closed.close();
const browser = await puppeteer.launch({
  executablePath: "/usr/bin/chromium",
  userDataDir: path.join(work, "profile"),
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-component-update", "--disable-background-networking",
    `--proxy-server=127.0.0.1:${nowhere}`, "--proxy-bypass-list=<-loopback>;127.0.0.1:9153", "--force-color-profile=srgb"],
  protocolTimeout: DEADLINE,
});
children.push(browser.process());
const ORIGIN = "http://127.0.0.1:9153";
const wrong = [];

async function open(address = `${ORIGIN}/`) {
  const page = await browser.newPage();
  page.setDefaultTimeout(DEADLINE);
  await page.setViewport({ width: 1280, height: 900 });
  page.on("console", (message) => {
    const of = message.location().url || "";
    if (["error", "warn"].includes(message.type())) wrong.push(`console ${message.type()}: ${message.text()} ${of}`);
  });
  page.on("pageerror", (error) => wrong.push(`page error: ${error}`));
  page.on("dialog", (dialog) => { wrong.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${ORIGIN}/`) && url !== "data:,") wrong.push(`request to ${url}`);
  });
  await page.evaluateOnNewDocument(() => {
    window.violations = [];
    window.paints = [];
    document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (entry.interactionId) window.paints.push({ duration: entry.duration, own: entry.processingEnd - entry.processingStart });
    }).observe({ type: "event", durationThreshold: 16, buffered: true });
    window.longest = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
    }).observe({ type: "longtask", buffered: true });
  });
  await page.goto(address, { waitUntil: "domcontentloaded" });
  return page;
}
const text = (page, selector) => page.$eval(selector, (element) => element.innerText);
const until = (page, test, ...args) => page.waitForFunction(test, { polling: 20 }, ...args);
const rows = (page) => page.$$eval("#names-rows button", (all) => all.map((button) => button.textContent));

const page = await open();
let failing = false;
process.on("uncaughtException", async (error) => {
  if (failing) return;
  failing = true;
  console.error(error);
  const seen = page.evaluate(() => [document.querySelector("#state").textContent, document.querySelector("#names-count").textContent,
    window.violations, document.activeElement.id]).catch((error) => error);
  const others = (await browser.pages()).filter((other) => other !== page).map((other) => other.evaluate(() => [location.href, document.visibilityState, document.body.innerText.slice(0, 1500), document.querySelectorAll("#names-rows tr").length, document.querySelector("#findings-rows")?.children.length]).catch(String));
  console.error("other pages:", await Promise.race([Promise.all(others), new Promise((done) => setTimeout(done, 5000, "no answer"))]));
  const late = new Promise((done) => setTimeout(done, 5000, "the page does not answer"));
  console.error("the page:", await Promise.race([seen, late]), "wrong so far:", wrong);
  process.exit(1);
});

step("what it shows");
await until(page, () => document.querySelector("#state").textContent === "ready");
await until(page, (n) => document.querySelector("#names-count").textContent.replaceAll(",", "").includes(`of ${n}`), NAMES + 4);
const shown = await rows(page);
assert.equal(shown.length, 100);
assert.deepEqual(shown, [...shown].sort());
assert.match(await text(page, "#zones-rows"), new RegExp(`^global\\s+${(NAMES + 4).toLocaleString("en")}\\s`, "m"));
await until(page, () => /this one/.test(document.querySelector("#replicas-rows").textContent));
await until(page, () => /claim-lost/.test(document.querySelector("#findings-rows").textContent));
// What is HTML in an entry is text here.
assert.ok((await text(page, "#findings-rows")).includes(unkind));
assert.equal(await page.$("#findings-rows img"), null);
await until(page, () => /Nothing has changed yet/.test(document.querySelector("#changes-rows").textContent));
await until(page, () => /About \d+ queries/.test(document.querySelector("#top-rows").textContent));

step("search, from the keyboard alone");
await page.keyboard.press("/");
assert.equal(await page.evaluate(() => document.activeElement.id), "search");
const typed = Date.now();
await page.keyboard.type("svc-424");
const alike = many.filter((one) => one.spec.hosts[0].includes("svc-424")).length;
await until(page, (n) => document.querySelector("#names-count").textContent === `1–${Math.min(n, 100)} of ${n}`, alike);
console.log(`results of a search of ${NAMES} names: ${Date.now() - typed} ms after the first key`);
assert.equal((await rows(page))[0], "svc-424.team-024.global");
await page.keyboard.press("ArrowDown");
await page.keyboard.press("ArrowDown");
await page.keyboard.press("ArrowUp");
assert.equal(await page.evaluate(() => document.activeElement.textContent), "svc-424.team-024.global");
await page.keyboard.press("Enter");
await until(page, () => /240\.0\.1\.168/.test(document.querySelector("#detail").textContent));
await page.keyboard.press("Escape");
assert.equal(await page.evaluate(() => document.activeElement.id), "search");
await page.keyboard.down("Control");
await page.keyboard.press("a");
await page.keyboard.up("Control");
await page.keyboard.press("Backspace");
await until(page, (n) => document.querySelector("#names-count").textContent.replaceAll(",", "").includes(`1–100 of ${n}`), NAMES + 4);
await page.keyboard.press("ArrowDown");
await page.keyboard.press("PageDown");
await until(page, () => /^101–200 of/.test(document.querySelector("#names-count").textContent));
const second = await rows(page);
assert.ok(second[0] > shown[99], `${second[0]} comes after ${shown[99]}`);
await until(page, (first) => document.activeElement.textContent === first, second[0]);
await page.keyboard.press("ArrowUp");
await until(page, (last) => document.activeElement.textContent === last, shown[99]);

step("every control can be reached by Tab, and shows that it has the focus");
const walker = await open();
await until(walker, () => document.querySelectorAll("#names-rows button").length === 100);
const walked = [];
for (let i = 0; i < 400; i++) {
  await walker.keyboard.press("Tab");
  const at = await walker.evaluate(() => {
    const element = document.activeElement;
    if (element === document.body) return null;
    const style = getComputedStyle(element);
    return { what: element.id || element.className || element.textContent, outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1 };
  });
  if (!at) break;
  assert.ok(at.outline, `${at.what} shows no focus`);
  walked.push(at.what);
}
assert.equal(walked[0], "skip");
for (const control of ["search", "zone", "names-next", "explain-name", "explain-type", "severity", "code", "object", "changes-host"]) {
  assert.ok(walked.includes(control), `${control} cannot be reached: ${walked.slice(0, 30)}`);
}
await walker.close();

step("explain");
await page.click("#explain-name");
await page.keyboard.type("checkout.shop.global");
await page.keyboard.press("Enter");
await until(page, () => !/^Why a name/.test(document.querySelector("#explain-result").textContent.trim()));
assert.match(await text(page, "#explain-result"), /checkout\.shop\.global[^]*Cause/);

step("findings, filtered");
await page.select("#severity", "error");
await until(page, () => !/warning/.test(document.querySelector("#findings-count").textContent) && /error/.test(document.querySelector("#findings-count").textContent));
await page.click("#object");
await page.keyboard.type("no/such");
await until(page, () => document.querySelector("#findings-count").textContent === "None.");
await page.$eval("#object", (input) => { input.value = ""; });
await page.select("#severity", "");
await until(page, () => /warning/.test(document.querySelector("#findings-count").textContent));

step("a change arrives without a reload");
await page.evaluate(() => { window.stayed = true; });
await page.click("#search");
await page.keyboard.type("newcomer");
await until(page, () => document.querySelector("#names-count").textContent === "No name matches.");
const changed = Date.now();
write(few, [...shop, entry("shop", "newcomer", ["newcomer.shop.global"], ["240.255.0.77"])]);
await until(page, () => /newcomer\.shop\.global\s*240\.255\.0\.77/.test(document.querySelector("#names-rows").textContent));
console.log(`a change of a file was on the page after ${Date.now() - changed} ms`);
write(few, [...shop, entry("shop", "newcomer", ["newcomer.shop.global"], ["240.255.0.78"])]);
await until(page, () => /newcomer\.shop\.global\s*240\.255\.0\.78/.test(document.querySelector("#names-rows").textContent));
write(few, shop);
await until(page, () => document.querySelector("#names-count").textContent === "No name matches.");
assert.equal(await page.evaluate(() => window.stayed), true);
await page.$eval("#search", (input) => { input.value = ""; input.dispatchEvent(new Event("input")); });
await until(page, () => document.querySelectorAll("#names-rows tr").length === 100);

step("charts move");
await until(page, () => document.querySelectorAll(".line0")[0].points.length >= 10 && document.querySelector("figcaption b").textContent !== "0");

step(`input to paint with ${NAMES} names`);
// What the page does for an input has to be short every time. Until it is painted, other programs may have the processor: of
// ten rounds one has to be undisturbed.
let undisturbed = false;
for (let nth = 1; nth <= 10 && !undisturbed; nth++) {
  await page.evaluate(() => { window.paints.length = 0; });
  await page.click("#search");
  let inputs = 0;
  for (const word of ["team-17", "svc-99", "shop", "svc-1"]) {
    await page.keyboard.type(word, { delay: 30 });
    for (let i = 0; i < word.length + 3; i++) await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Escape");
    for (let i = 0; i < word.length; i++) await page.keyboard.press("Backspace");
    inputs += 3 * word.length + 5;
  }
  await page.click("#names-next");
  // All of them have been told by then.
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 500))));
  const measured = await page.evaluate(() => ({ paints: window.paints, longest: window.longest }));
  const paints = measured.paints.map((paint) => paint.duration).sort((a, b) => a - b);
  const own = Math.max(0, ...measured.paints.map((paint) => paint.own));
  const slowest = paints.at(-1) ?? 0;
  console.log(`round ${nth}: of ${inputs} inputs ${paints.length} took 16 ms or more to be painted, half of these up to ${paints[paints.length >> 1] ?? 0} ms, the slowest ${slowest} ms; of that the page itself ${own.toFixed(1)} ms at most; its longest task ${Math.round(measured.longest)} ms`);
  assert.ok(own < PAINT / 2, `the page took ${own} ms for an input`);
  undisturbed = slowest < PAINT;
}
assert.ok(undisturbed, `in no round every input was painted within ${PAINT} ms`);

step("axe: light and dark, wide and narrow");
// axe makes HTML of text, which the page forbids; that the page itself gets along with its policy is checked by everything else.
const isolated = await browser.newPage();
isolated.setDefaultTimeout(DEADLINE);
await isolated.setBypassCSP(true);
await isolated.bringToFront();
await isolated.goto(`${ORIGIN}/`, { waitUntil: "domcontentloaded" });
await until(isolated, () => document.querySelectorAll("#names-rows tr").length === 100 && document.querySelector("#findings-rows").children.length > 2);
// Sections above may still be filling, and move what the mouse would be sent to.
await isolated.$eval("#names-rows button", (button) => button.click());
await until(isolated, () => !document.querySelector("#detail").hidden);
await isolated.evaluate(axe);
for (const scheme of ["light", "dark"]) {
  for (const width of [1280, 390]) {
    await isolated.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await isolated.setViewport({ width, height: 900 });
    const overflow = await isolated.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(overflow <= 0, `at ${width} px the page is ${overflow} px too wide`);
    const result = await isolated.evaluate(() => window.axe.run(document, { resultTypes: ["violations", "incomplete"] }));
    const said = (all) => all.map((of) => `${of.id}: ${of.nodes.map((node) => `${node.target} ${node.failureSummary || ""}`).slice(0, 5).join("; ")}`);
    console.log(`${scheme}, ${width} px: ${result.violations.length} violations, ${result.passes.length} rules passed, to be looked at: ${result.incomplete.map((of) => of.id).join(", ") || "none"}`);
    wrong.push(...said(result.violations).map((text) => `axe ${scheme} ${width}: ${text}`));
  }
}
await isolated.close();
await page.bringToFront();

step("behind a path, as the API server's proxy and others put it");
// A proxy of our own, since relative addresses are what matters: everything below /proxy/ is the listener.
const http = await import("node:http");
const proxy = http.createServer((request, reply) => {
  const inner = http.request({ host: "127.0.0.1", port: 9153, path: request.url.replace(/^\/x\/proxy/, ""), headers: { ...request.headers, host: "127.0.0.1" } }, (answer) => {
    reply.writeHead(answer.statusCode, answer.headers);
    answer.pipe(reply);
  });
  inner.on("error", () => reply.destroy());
  inner.end();
});
// The listener's place among what Chromium may reach is taken by the one port; so this is asked without it.
await new Promise((listening) => proxy.listen(9154, "127.0.0.1", listening));
const html = await (await fetch("http://127.0.0.1:9154/x/proxy/")).text();
assert.ok(!/(?:src|href)="\/|fetch\("\//.test(html), "an address that begins with /");
assert.equal((await fetch("http://127.0.0.1:9154/x/proxy/api/v1/status")).status, 200);
proxy.close();

step("pictures");
await page.setViewport({ width: 1280, height: 900 });
await page.evaluate(() => window.scrollTo(0, 0));
await page.$eval("#search", (input) => { input.value = "shop"; input.dispatchEvent(new Event("input")); });
await until(page, () => [...document.querySelectorAll("#names-rows button")].some((button) => button.textContent === "checkout.shop.global"));
await page.evaluate(() => [...document.querySelectorAll("#names-rows button")].find((button) => button.textContent === "checkout.shop.global").click());
await until(page, () => /2001:db8::1/.test(document.querySelector("#detail").textContent));
await page.evaluate(() => { document.activeElement.blur(); });
for (const scheme of ["light", "dark"]) {
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  const file = path.join(IMAGES, `page-${scheme}.png`);
  await page.screenshot({ path: file, optimizeForSpeed: false });
  const size = fs.statSync(file).size;
  console.log(`${file}: ${size} octets`);
  assert.ok(size < 250_000, `${file} has ${size} octets`);
}

step("a page that nobody looks at asks for nothing");
// One that is looked at tells how time goes by.
const looked = await open();
const rounds = { page: 0, looked: 0 };
page.on("request", () => rounds.page++);
looked.on("request", (request) => { if (request.url().endsWith("/api/v1/status")) rounds.looked++; });
const passed = async (test) => { while (!test()) await new Promise((done) => setTimeout(done, 20)); };
const hide = (hidden) => page.evaluate((hidden) => {
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => hidden ? "hidden" : "visible" });
  document.dispatchEvent(new Event("visibilitychange"));
}, hidden);
await hide(false);
await passed(() => rounds.page > 5 && rounds.looked > 0);
await hide(true);
// What it had begun it ends.
let from = rounds.looked;
await passed(() => rounds.looked >= from + 3);
const quiet = rounds.page;
from = rounds.looked;
await passed(() => rounds.looked >= from + 4);
assert.equal(rounds.page, quiet, "requests of a page that nobody sees");
await hide(false);
await passed(() => rounds.page > quiet);
await looked.close();

step("changes are shown once each, also to who filters them");
await page.bringToFront();
for (let at = 0; at < 3; at++) {
  write(few, [...shop, entry("shop", "again", ["again.shop.global"], [`240.255.1.${at}`])]);
  for (const part of ["a", "", "again.shop.global", ""]) {
    await page.$eval("#changes-host", (input, part) => { input.value = part; input.dispatchEvent(new Event("input")); }, part);
  }
  await until(page, (address) => document.querySelector("#changes-rows").textContent.includes(address), `→ 240.255.1.${at} (`);
}
const told = await page.$$eval("#changes-rows li", (all) => all.map((row) => row.textContent).filter((text) => text.includes("again.shop.global")));
assert.equal(told.length, 3, `${told}`);

step("a program that has gone is told");
program.kill("SIGKILL");
await until(page, () => /cannot be reached/.test(document.querySelector("#state").textContent));
const gone = wrong.filter((text) => !/ERR_CONNECTION_(REFUSED|RESET)|ERR_EMPTY_RESPONSE|ERR_SOCKET_NOT_CONNECTED|ERR_CONNECTION_CLOSED/.test(text));

const violations = await page.evaluate(() => window.violations);
clearInterval(asking);
asker.close();
await browser.close();
const all = [...gone, ...violations.map((text) => `content security policy: ${text}`)];
for (const text of all) console.error(text);
if (all.length) process.exit(1);
console.log("no error in the console, no request to anybody else, nothing the policy had to stop");
process.exit(0);
